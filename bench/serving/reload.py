"""Memory of the server over reloads under light load: ``make bench-reload``. A benchmark is never a test."""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from serving.process import Server, serving
from stylewire import Client, seed
from stylewire.client.admin import AdminClient
from stylewire.demo import MODELS

SEEDED = Path("build/bench/seeded256")
_TOLERANCE = 0.10
"""How much more than after the first reload the process may have in the end."""
_PAUSE_SECONDS = 0.05


class Callers(AbstractContextManager["Callers"]):
    """One caller who makes a picture, and waits a little, again and again.

    Attributes:
        seconds: what the calls took, in order.
        failures: those that failed.
    """

    def __init__(self, port: int, models: Sequence[str]) -> None:
        self.seconds: list[float] = []
        self.failures: list[Exception] = []
        self._port, self._models = port, models
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _call(self) -> None:
        with Client(f"127.0.0.1:{self._port}") as client:
            while not self._stopping.wait(_PAUSE_SECONDS):
                for model in self._models:
                    started = time.perf_counter()
                    try:
                        client.generate(seed(1), model=model)
                    except Exception as err:  # noqa: BLE001 - counted
                        self.failures.append(err)
                    self.seconds.append(time.perf_counter() - started)


def settled(server: Server) -> float:
    """Wait until everything that was replaced is closed; return the memory of the process in MB."""
    while server.metric("stylewire_model_state", state="retiring"):
        time.sleep(0.05)
    return server.resident_bytes() / 1e6


def slope(values: Sequence[float]) -> float:
    """Return the growth from one value to the next, by least squares."""
    return statistics.linear_regression(range(len(values)), values).slope


def measure(models: Path, cycles: int, backend: str) -> bool:
    """Reload all models so often; print what the process had after each time, and say whether memory returned."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(models, "--admin-address", f"unix:{folder}/admin.sock", "--backend", backend) as server,
        AdminClient(f"unix:{folder}/admin.sock") as admin,
        Client(server.address) as client,
    ):
        names = [model.name for model in client.models()]
        with Callers(server.port, names) as callers:
            resident = [settled(server)]
            for _ in range(cycles):
                for name in names:
                    admin.reload(name)
                resident.append(settled(server))
    growth = resident[-1] / resident[1] - 1
    print(f"{', '.join(names)} ({backend}): MB at the start and after each reload of all")
    print("  " + " ".join(f"{each:.0f}" for each in resident))
    print(f"  after the last over after the first: {growth:+.1%}; {slope(resident[1:]):+.2f} MB a reload")
    longest, median = max(callers.seconds), statistics.median(callers.seconds)
    print(
        f"  {len(callers.seconds)} calls meanwhile, {len(callers.failures)} failed; p50 {median * 1e3:.0f} ms, ", end=""
    )
    print(f"longest {longest * 1e3:.0f} ms", flush=True)
    return growth <= _TOLERANCE and not callers.failures


def main() -> int:
    """Measure the demo models, and the 256 px model where there is one; the exit code says whether memory returned."""
    parser = argparse.ArgumentParser(prog="serving.reload", description=__doc__)
    parser.add_argument("models", nargs="*", type=Path, help="folders of models; the demo's and seeded256 by default")
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--backend", default="onnxruntime")
    options = parser.parse_args()
    usual = [MODELS, *([SEEDED] if SEEDED.is_dir() else [])]
    returned = [measure(models, options.cycles, options.backend) for models in options.models or usual]
    return 0 if all(returned) else 1


if __name__ == "__main__":
    sys.exit(main())
