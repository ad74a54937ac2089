"""``stylewire serve`` as a user starts it, in a process of its own."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families


class Server:
    """A running server.

    Attributes:
        port: of gRPC.
        metrics_url: where the metrics are.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert process.stdout is not None
        words = process.stdout.readline().split()
        self.port = int(words[3].rstrip(",").rpartition(":")[2])
        self.metrics_url = words[-1]

    def resident_bytes(self) -> int:
        """Memory that the process has."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples with this name and these labels; 0 if there is none."""
        with urllib.request.urlopen(self.metrics_url, timeout=10) as reply:  # noqa: S310 - the server's own address
            text = reply.read().decode()
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())


@contextmanager
def serving(
    models: Path, *arguments: str, launcher: tuple[str, ...] = ("-m", "stylewire", "serve")
) -> Iterator[Server]:
    """Start a server and stop it; it runs onnxruntime, as the bare loop does.

    Args:
        models: model directory, or folder of them.
        arguments: further settings.
        launcher: what Python runs.
    """
    command = [sys.executable, *launcher, "--models", str(models), "--port", "0", "--metrics-port", "0"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STYLEWIRE_")}
    with subprocess.Popen(
        [*command, "--drain-seconds", "0", "--backend", "onnxruntime", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        try:
            yield Server(process)
        finally:
            process.terminate()
