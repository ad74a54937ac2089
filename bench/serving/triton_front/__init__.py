"""What it costs to run graphs on Triton: ``make bench-triton``."""
# Not called triton: PyTorch would take it for the compiler of that name.
