"""``stylewire serve`` as a user starts it, in a process of its own."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


class Server:
    """A running server.

    Attributes:
        port: of gRPC.
        pid: of the process.
        metrics_url: where the metrics are.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.pid = process.pid
        assert process.stdout is not None
        words = process.stdout.readline().split()
        self.port = int(words[3].rstrip(",").rpartition(":")[2])
        self.metrics_url = words[-1]

    def resident_bytes(self) -> int:
        """Memory that the process has."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def processor_seconds(self) -> float:
        """Time that its threads have had a core for."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples with this name and these labels; 0 if there is none."""
        return sum(each.value for each in self.metrics() if each.name == name and labels.items() <= each.labels.items())

    def metrics(self) -> list[Sample]:
        """All samples at one moment."""
        with urllib.request.urlopen(self.metrics_url, timeout=10) as reply:  # noqa: S310 - the server's own address
            text = reply.read().decode()
        return [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def stop(self) -> int:
        """End the process with SIGTERM; gives its exit code."""
        self._process.terminate()
        return self._process.wait(60)


@contextmanager
def serving(
    models: Path,
    *arguments: str,
    launcher: tuple[str, ...] = ("-m", "stylewire", "serve"),
    service: Path | None = None,
    log: int | IO[str] = subprocess.DEVNULL,
) -> Iterator[Server]:
    """Start a server and stop it; it runs onnxruntime, as the bare loop does.

    Args:
        models: model directory, or folder of them.
        arguments: further settings.
        launcher: what Python runs.
        service: the ``service`` folder of another checkout, to run that.
        log: where its log goes.
    """
    command = [sys.executable, *launcher, "--models", str(models), "--port", "0", "--metrics-port", "0"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STYLEWIRE_")}
    if service:
        environment["PYTHONPATH"] = str(service)
    with subprocess.Popen(
        [*command, "--drain-seconds", "0", "--backend", "onnxruntime", *arguments],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=environment,
    ) as process:
        try:
            yield Server(process)
        finally:
            process.terminate()
