"""How fast each backend runs each network, and how close it stays."""
