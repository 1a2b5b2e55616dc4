"""Agents of different style that the mutation benchmark puts faults into."""
