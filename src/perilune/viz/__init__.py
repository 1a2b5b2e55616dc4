"""Progress displays, figures, videos, maps and reports of runs."""
