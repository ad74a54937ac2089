"""Checkpoints to graphs to model directories."""
