"""The up-sampling layers alone, written in five ways: ``PYTHONPATH=bench python -m models.upsampling``."""
