"""Whether memory returns when models are reloaded, and what callers notice of it."""
