"""Everything to look at: progress, figures, videos, maps and reports. Reads events and run directories."""
