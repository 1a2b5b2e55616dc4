"""Write, read and check run directories."""
