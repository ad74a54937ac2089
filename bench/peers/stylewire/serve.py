"""Serve with stylewire of this checkout, as a user would: no setting but the model."""

import os
import sys
from pathlib import Path

from peers.settings import Settings

if __name__ == "__main__":
    chosen = Settings.load()
    root = Path(__file__).parents[3]
    os.environ["PYTHONPATH"] = f"{root / 'service'}:{root / 'export'}"
    options = ["--models", chosen.model, "--port", str(chosen.port)]
    command = [sys.executable, "-m", "stylewire", "serve", *options, "--metrics-port", "0", "--drain-seconds", "0"]
    os.execv(sys.executable, command)  # noqa: S606
