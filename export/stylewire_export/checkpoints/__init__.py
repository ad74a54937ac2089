"""Readers of checkpoint files. Nothing in a file is ever run; see :mod:`.pickles.unpickler` for how and why."""

from stylewire_export.checkpoints.config import AnyGenerator, EncoderCheckpoint, GeneratorCheckpoint, GeneratorConfig
from stylewire_export.checkpoints.reader import read_any_generator, read_encoder, read_generator

__all__ = [
    "AnyGenerator",
    "EncoderCheckpoint",
    "GeneratorCheckpoint",
    "GeneratorConfig",
    "read_any_generator",
    "read_encoder",
    "read_generator",
]
