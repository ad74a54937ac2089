"""Graphs that run on Triton servers elsewhere."""
