"""The ``stylewire`` command line."""
