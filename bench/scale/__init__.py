"""A service of 10 to 10,000 replicas, simulated from what one replica was measured to cost."""
