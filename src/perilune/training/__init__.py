"""The training loop, its events and progress, and evaluation."""
