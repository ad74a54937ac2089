"""Load on a live service, what it answers, and how many replicas a wanted load takes: ``stylewire bench``."""
