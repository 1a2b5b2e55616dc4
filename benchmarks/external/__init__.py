"""Examine third-party agents, mutants and unseen programs with the doctor."""
