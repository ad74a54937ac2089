"""Optimizing codes toward images, in processes of their own; only ``projector.py`` runs in the server's process."""
