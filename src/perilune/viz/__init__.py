"""What is made to be looked at: progress, plots and videos. Reads events and run directories, changes neither."""
