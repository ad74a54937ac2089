"""Load from h2load (Debian: nghttp2-client): one small C program, the same for HTTP/1.1 and for gRPC."""

import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Protocol = Literal["h1", "grpc"]
GRPC_HEADERS = {"content-type": "application/grpc", "te": "trailers"}
_REQUESTS = re.compile(r"requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
_DATA = re.compile(r"traffic: .*\((\d+)\) data")


class LoadError(Exception):
    """What h2load measured is not what was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run measured.

    Attributes:
        requests_per_second: answered requests only.
        latencies_seconds: of each answered request, first byte sent to last byte received.
        failed: requests with an HTTP status of failure, or none.
        bytes_per_request: of bodies, without headers; a gRPC error has status 200 and almost none.
    """

    requests_per_second: float
    latencies_seconds: Sequence[float]
    failed: int
    bytes_per_request: float

    def percentile(self, percent: int) -> float:
        """Find the latency in seconds that this share of the requests stays under."""
        return percentile(self.latencies_seconds, percent)


def require() -> None:
    """End the program, with what to install, where there is no h2load."""
    if not shutil.which("h2load"):
        raise SystemExit("h2load is missing; it is in Debian's nghttp2-client")


def percentile(values: Sequence[float], percent: int) -> float:
    """Find the value that this share of the values stays under."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def frame(message: bytes) -> bytes:
    """Put the prefix of gRPC before a message: not compressed, length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def run(  # noqa: PLR0913 - a request has this many parts
    port: int,
    *,
    protocol: Protocol,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    clients: int,
    seconds: float,
    warm_up_seconds: float = 1.0,
) -> Result:
    """Send the same POST again and again over one connection a client.

    Args:
        port: on 127.0.0.1.
        protocol: ``grpc`` adds the headers and the prefix of gRPC.
        path: with its leading slash.
        headers: besides those of gRPC.
        body: of one request, for gRPC the message alone.
        clients: connections, with one request in flight each.
        seconds: what is measured.
        warm_up_seconds: the same load before, not measured.

    Raises:
        LoadError: h2load failed, or no request was answered.
    """
    every = {**GRPC_HEADERS, **headers} if protocol == "grpc" else headers
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "body").write_bytes(frame(body) if protocol == "grpc" else body)
        command = ["h2load", f"--clients={clients}", "--max-concurrent-streams=1", f"--data={folder / 'body'}"]
        # Not h2load's own --warm-up-time: its traffic would count in the bytes, its requests not.
        command += [f"--duration={round((warm_up_seconds + seconds) * 1000)}ms", f"--log-file={folder / 'log'}"]
        command += [f"--header={key}: {value}" for key, value in every.items()]
        command += ["--h1"] if protocol == "h1" else []
        done = subprocess.run([*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=False)
        log = (folder / "log").read_text() if (folder / "log").exists() else ""
    return _read(done.stdout or done.stderr, log, warm_up_seconds, seconds)


def _read(report: str, log: str, warm_up_seconds: float, seconds: float) -> Result:
    requests, data = _REQUESTS.search(report), _DATA.search(report)
    if requests is None or data is None:
        raise LoadError(f"h2load ended with {report[-500:]!r}")
    _, succeeded, failed, _, timed_out = map(int, requests.groups())
    if succeeded == 0:
        raise LoadError(f"no request was answered: {requests.group()}")
    rows = [tuple(map(int, line.split())) for line in log.splitlines()]  # start, status, duration; times in us
    answered = sorted((start + taken, taken / 1e6) for start, status, taken in rows if 200 <= status < 300)
    warm_until = min(start for start, _, _ in rows) + warm_up_seconds * 1e6
    first = max(sum(end < warm_until for end, _ in answered), 1)  # the answer that the measured time begins with
    measured = answered[first:]
    if not measured:
        raise LoadError(f"{len(answered)} answers in {warm_up_seconds + seconds:g} s are too few: choose more seconds")
    return Result(
        # From answer to answer, since batches come in bursts: a fixed time would cut one in two.
        requests_per_second=len(measured) * 1e6 / (measured[-1][0] - answered[first - 1][0]),
        latencies_seconds=[latency for _, latency in measured],
        failed=failed + timed_out,
        bytes_per_request=int(data[1]) / (succeeded + failed),
    )
