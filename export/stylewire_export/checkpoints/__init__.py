"""Checkpoint files to plain values. Nothing in a file is ever run; see :mod:`.pickles.unpickler` for how and why.

A file passes through containers/ and pickles/ to one object of dictionaries, numbers and tensor records; families/
recognizes whose it is and translates the names. "Format notes" in the sources are the project's pages on these files,
../shared/formats: 1 generators, 2 encoders, 3 safe reading.
"""

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
