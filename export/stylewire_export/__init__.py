"""Checkpoints to graphs to model directories."""

import os

# onnxruntime reports its use to its maker, and keeps an id of the machine in the home folder, unless this is set before
# it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
