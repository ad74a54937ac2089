"""The embedded demo: two models of one latent space, sample pictures, and a tour: ``python -m stylewire.demo``."""

from pathlib import Path

MODELS = Path(__file__).parent / "models"
"""Model directories, served when the server has no others."""
SAMPLES = Path(__file__).parent / "samples"
"""Pictures that no training saw."""
