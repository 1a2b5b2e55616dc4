"""The local web page that follows runs. Loaded only to serve."""
