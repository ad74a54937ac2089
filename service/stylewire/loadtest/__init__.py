"""Load on a live service, the results of its calls, and the replicas that a target takes: ``stylewire bench``."""
