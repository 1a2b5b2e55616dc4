"""Third-party agents by the library or program that they come from. Importing a module needs its library."""
