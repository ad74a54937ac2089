"""Generated from ``protos/stylewire/v1`` by ``make protos``; import it through ``stylewire.pb``."""
