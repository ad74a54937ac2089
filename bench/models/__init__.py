"""How fast each backend runs each network, how close it stays, and what it takes: ``make bench-models``."""
