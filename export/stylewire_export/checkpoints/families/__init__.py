"""One module for each layout of checkpoints: it recognizes its files and translates their tensors."""
