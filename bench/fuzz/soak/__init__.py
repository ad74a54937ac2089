"""A server under everything at once for a long time: ``make bench-soak``."""
