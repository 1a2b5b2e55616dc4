"""Measurements that anybody can repeat: how fast an update is, and how well a preset learns."""
