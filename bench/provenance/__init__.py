"""What it costs to say in a file where a picture comes from."""
