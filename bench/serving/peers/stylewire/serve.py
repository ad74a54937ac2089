"""Serve with stylewire of this checkout: no setting but the model, and the runtime that all peers use."""

import os
import sys
from pathlib import Path

from serving.peers.settings import Settings

if __name__ == "__main__":
    chosen = Settings.load()
    root = Path(__file__).parents[4]
    os.environ["PYTHONPATH"] = f"{root / 'service'}:{root / 'export'}"
    options = ["--models", chosen.model, "--backend", "onnxruntime", "--port", str(chosen.port)]
    command = [sys.executable, "-m", "stylewire", "serve", *options, "--metrics-port", "0", "--drain-seconds", "0"]
    os.execv(sys.executable, command)  # noqa: S606
