"""What rollouts, kills, slow servers and new servers mean for callers."""
