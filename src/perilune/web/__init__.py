"""The web server and the page of ``perilune watch``."""
