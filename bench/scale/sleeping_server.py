"""``stylewire serve`` on a device of known speed: every batch also sleeps, as a thread does that waits for a GPU.

What is compared with the simulation is then the server's queue, batches and front, and not the noise of this machine.
SCALE_FIXED_MS and SCALE_ROW_MS say how long.
"""

import os
import time
from collections.abc import Sequence

from stylewire.cli.main import main
from stylewire.server.engine.backends.onnxruntime.backend import OrtBackend
from stylewire.server.engine_api.graphs import Arrays

FIXED_SECONDS = float(os.environ.get("SCALE_FIXED_MS", "20")) / 1e3
ROW_SECONDS = float(os.environ.get("SCALE_ROW_MS", "10")) / 1e3
_run = OrtBackend.run


def _slow(self: OrtBackend, inputs: Arrays, outputs: Sequence[str], *, exclusive: bool = False) -> Arrays:
    started = time.perf_counter()
    found = _run(self, inputs, outputs, exclusive=exclusive)
    rows = len(next(iter(inputs.values())))
    time.sleep(max(0.0, FIXED_SECONDS + ROW_SECONDS * rows - (time.perf_counter() - started)))
    return found


OrtBackend.run = _slow  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
