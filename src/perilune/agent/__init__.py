"""The agent: settings, networks, targets, acting and learning."""
