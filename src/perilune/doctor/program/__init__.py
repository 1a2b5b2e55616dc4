"""Examine a program as it is: run it on a tracer environment and read what it computes."""
