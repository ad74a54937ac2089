"""The process that optimizes, ``python -m`` this module. One task at a time, told over pipes.

A process of its own, since nothing of it may hold up the calls of the server: it has a lower priority, threads, memory
and an interpreter lock of its own, and the server can end it. It ends when the server does.
"""

import argparse
import contextlib
import os
import select
import traceback
import warnings
from pathlib import Path
from typing import BinaryIO

import torch

from stylewire.errors import ModelNotReadyError, StylewireError, UnsupportedError
from stylewire.manifest import Manifest, ManifestError
from stylewire.server.engine.projection.networks import Network, read_network
from stylewire.server.engine.projection.optimizer import Optimizer, measure_spread
from stylewire.server.engine.projection.tasks import (
    HEAD_BYTES,
    Message,
    Task,
    found_message,
    progress_message,
    read_task,
    sizes,
)


class Worker:
    """Does tasks until the other end of the pipe is closed.

    Args:
        given: where tasks come from.
        told: where answers go.
        device: what to compute on.
    """

    def __init__(self, given: BinaryIO, told: BinaryIO, device: str) -> None:
        self._given, self._told = given, told
        self._device = torch.device(device)
        self._model: _Model | None = None

    def run(self) -> None:
        """Do tasks until the server has gone."""
        while (message := self._read()) is not None:
            if message.kind == "task":  # a cancellation may come when its task has just ended
                self._tell(self._answer(read_task(message)))

    def _answer(self, task: Task) -> Message:
        try:
            return self._do(task)
        except StylewireError as err:
            return Message("failed", {"reason": err.reason, "message": err.message})
        except Exception:  # noqa: BLE001 - the server writes it into its log
            return Message("failed", {"reason": "", "message": traceback.format_exc()})

    def _do(self, task: Task) -> Message:
        model = self._open(task)
        optimizer = Optimizer(model.synthesis, task, model.spread, self._device)
        for progress in optimizer.steps():
            self._tell(progress_message(progress))
            if self._interrupted():
                return Message("cancelled")
        return found_message(optimizer.found())

    def _open(self, task: Task) -> "_Model":
        """Read the networks of a task, unless they are those of the task before."""
        if self._model is None or self._model.digest != task.digest:
            self._model = None  # before the next one takes memory
            self._model = _Model(task, self._device)
        return self._model

    def _interrupted(self) -> bool:
        """Whether the task is not wanted any more: the server says so, or has gone."""
        if not select.select([self._given], [], [], 0)[0]:
            return False
        self._read()
        return True

    def _read(self) -> Message | None:
        """Wait for a message; None when the server has gone. Not buffered, since ``select`` sees only what is not."""
        try:
            header_bytes, body_bytes = sizes(self._read_exactly(HEAD_BYTES))
            return Message.unpack(self._read_exactly(header_bytes), self._read_exactly(body_bytes))
        except EOFError:
            return None

    def _read_exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._given.read(size - len(parts))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)

    def _tell(self, message: Message) -> None:
        self._told.write(message.pack())
        self._told.flush()


class _Model:
    """The networks of a model directory.

    Attributes:
        digest: of the directory.
        synthesis: code -> picture.
        spread: standard deviation of a value of w.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        directory = Path(task.directory)
        try:
            manifest = Manifest.read(directory)
            graphs = {f"{graph}{suffix}" for graph in ("mapping", "synthesis") for suffix in (".onnx", ".pt")}
            manifest.verify_files(directory, graphs & manifest.files.keys())
        except (OSError, ManifestError) as err:
            raise _replaced(directory) from err
        if manifest.digest() != task.digest:
            raise _replaced(directory)
        self.digest = task.digest
        self.synthesis: Network = read_network(directory, "synthesis", manifest.files, "image", device)
        mapping = read_network(directory, "mapping", manifest.files, "w", device)
        self.spread = measure_spread(mapping, task.mean, manifest.z_dim, manifest.label_dim, device)
        if not self.spread > 0:
            raise UnsupportedError(f"all codes of model {manifest.name!r} are equal, so none can be found")


def _replaced(directory: Path) -> ModelNotReadyError:
    return ModelNotReadyError(f"model {directory.name!r} has just been replaced; retry", retry_after_seconds=1.0)


def main() -> None:
    """Do what the server tells, at a lower priority."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--niceness", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", required=True)
    options = parser.parse_args()
    os.nice(options.niceness)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    torch._C._jit_set_profiling_executor(False)  # noqa: SLF001 - no public name exists; it would compile for minutes
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    with contextlib.suppress(BrokenPipeError):  # the server has gone
        Worker(os.fdopen(0, "rb", buffering=0), told, options.device).run()
    os._exit(0)  # taking PyTorch apart takes seconds, and everything was told


if __name__ == "__main__":
    main()
