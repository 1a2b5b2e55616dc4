"""Replay buffers, prioritized sampling and symmetries."""
