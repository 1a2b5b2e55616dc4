"""Benchmarks that need a clone of the repository. The installed package does not contain them."""
