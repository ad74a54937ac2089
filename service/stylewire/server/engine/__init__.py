"""The wing that owns models: loading, batching, running."""
