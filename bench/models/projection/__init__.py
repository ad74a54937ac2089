"""What optimizing a code gains, and what it costs the other calls: ``make bench-projection``."""
