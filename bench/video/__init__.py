"""How fast, how large and how like frames become videos: ``make bench-video``."""
