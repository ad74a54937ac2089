"""The networks in PyTorch, one file each, and what makes them of a checkpoint."""
