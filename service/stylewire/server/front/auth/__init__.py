"""Who may call, and how much: tokens, TLS, rate limits."""
