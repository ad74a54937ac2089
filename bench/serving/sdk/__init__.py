"""What the SDK costs: ``make bench-sdk``."""
