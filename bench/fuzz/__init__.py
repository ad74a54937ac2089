"""Two hundred thousand requests that nobody should send: ``make bench-fuzz``."""
