"""What measures a server from outside."""
