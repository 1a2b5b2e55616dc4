"""The web server and page of `perilune watch`."""
