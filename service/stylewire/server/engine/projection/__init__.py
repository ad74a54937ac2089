"""Optimizing codes toward pictures, in processes of their own; only ``projector.py`` runs in the server's process."""
