"""Write a report about runs in one HTML file: curves, videos, settings, scores and what to try next."""
