"""The same graphs behind other model servers, measured in turns with stylewire; see ``README.md``."""
