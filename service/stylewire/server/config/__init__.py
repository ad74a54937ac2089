"""Settings: flags, environment, file."""
