"""What a candidate takes when it has a process to itself: memory, and seconds until its first output."""

import importlib
import multiprocessing
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

from models.candidate import PACKAGES, Candidate
from stylewire.errors import BackendUnavailableError
from stylewire.server.engine_api.graphs import Arrays
from stylewire.server.host import resident_bytes

_FILLED = 0.9
"""Share of the free memory that all candidates together may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What was measured.

    Attributes:
        start_seconds: to load the graph and run the first batch.
        runtime_bytes: resident after the import of the runtime, less before.
        bytes_by_batch: resident after a batch of this size and all smaller ones, less before the graph was loaded.
    """

    start_seconds: float
    runtime_bytes: int
    bytes_by_batch: Mapping[int, int]


def footprint(
    candidate: Candidate, inputs: Mapping[int, Arrays], output: str, *, threads: int, seconds: float
) -> Footprint:
    """Measure in a fresh process, which is ended after some seconds.

    Args:
        candidate: whose footprint it is.
        inputs: batch size -> what it runs, the smallest first.
        output: that is asked for.
        threads: of the backend.
        seconds: that loading and running may take together.

    Raises:
        BackendUnavailableError: the candidate cannot run here; the message says why.
    """
    context = multiprocessing.get_context("spawn")  # forked processes would have what this one has loaded
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, candidate, inputs, output, threads), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise BackendUnavailableError(f"takes more than {seconds:g} s to load and run its batches")
        result = receiver.recv()
    except EOFError:
        process.join()
        raise BackendUnavailableError(f"its process ended with exit code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if isinstance(result, Footprint):
        return result
    raise BackendUnavailableError(result)


def choose_fitting(footprints: Mapping[Candidate, Footprint], free: int) -> dict[Candidate, str]:
    """Leave out those for which the memory does not suffice if all are loaded at once; the first ones stay.

    Args:
        footprints: in the order of importance.
        free: bytes that there are.

    Returns:
        Those left out, each with the reason.
    """
    left, shared, refused = free * _FILLED, 0, dict[Candidate, str]()
    for candidate, taken in footprints.items():
        if not candidate.timed:  # it runs before the others, alone
            continue
        most = max(taken.bytes_by_batch.values())
        needed = max(0, most - shared) if candidate.batch else most  # of files for one batch size, one is open
        if needed > left:
            refused[candidate] = f"needs {needed / 1e9:.1f} GB beside the others, {left / 1e9:.1f} GB are left"
            continue
        left -= needed
        shared += needed if candidate.batch else 0
    return refused


def _send(sender: Connection, candidate: Candidate, inputs: Mapping[int, Arrays], output: str, threads: int) -> None:
    try:
        sender.send(_measure(candidate, inputs, output, threads))
    except BackendUnavailableError as err:
        sender.send(str(err))
    except Exception as err:  # noqa: BLE001 - the exceptions of the runtimes have no class in common
        sender.send(f"{type(err).__name__}: {err}".splitlines()[0])


def _measure(candidate: Candidate, inputs: Mapping[int, Arrays], output: str, threads: int) -> Footprint:
    bare = resident_bytes()
    importlib.import_module(PACKAGES[candidate.backend])
    before, started, taken = resident_bytes(), time.perf_counter(), dict[int, int]()
    backend = candidate.open(threads)
    start_seconds = 0.0
    for batch, values in inputs.items():
        backend.run(values, (output,))
        start_seconds = start_seconds or time.perf_counter() - started
        backend.run(values, (output,))  # some allocate once more
        taken[batch] = resident_bytes() - before
    return Footprint(start_seconds=start_seconds, runtime_bytes=before - bare, bytes_by_batch=taken)
