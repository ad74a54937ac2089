"""What the search for faces takes, and what it costs those who need none."""
