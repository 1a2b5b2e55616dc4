"""One HTML file about runs: curves, videos, settings, scores and what to try next."""
