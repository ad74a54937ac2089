"""stylewire.v1: messages -> jobs, results -> messages."""
