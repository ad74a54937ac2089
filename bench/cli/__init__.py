"""How fast the command line starts."""
