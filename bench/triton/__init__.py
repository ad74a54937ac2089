"""What it costs to run graphs on Triton: ``make bench-triton``."""
