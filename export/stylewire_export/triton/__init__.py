"""Model directories to a Triton model repository."""
