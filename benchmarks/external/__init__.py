"""Examine programs that others wrote: sound ones must get no finding."""
