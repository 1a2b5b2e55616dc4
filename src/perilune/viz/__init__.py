"""Progress displays, figures, videos, maps and reports, made from events and run directories."""
