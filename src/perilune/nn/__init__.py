"""The neural network, from scratch on NumPy."""
