"""The work of the process that optimizes: one task at a time, as its messages say.

It runs in a ``ChildProcess``, with threads of its own and a lower priority than the server.
"""

import contextlib
import os
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from stylewire.errors import ModelNotReadyError, StylewireError, UnsupportedError
from stylewire.manifest import Manifest, ManifestError
from stylewire.server.engine.projection.networks import Network, read_network
from stylewire.server.engine.projection.optimizer import Optimizer, measure_spread
from stylewire.server.engine.projection.tasks import Cancelled, Failed, Task, WorkerOptions
from stylewire.server.engine_api.projection import Found


class Worker:
    """Does tasks until the server closes the connection.

    Args:
        connection: to the server.
        device: what to compute on.
    """

    def __init__(self, connection: Connection, device: str) -> None:
        self._connection, self._device = connection, torch.device(device)
        self._model: _Model | None = None

    def run(self) -> None:
        """Do tasks.

        Raises:
            EOFError: the server has gone.
        """
        while True:
            message = self._connection.recv()
            if isinstance(message, Task):  # a cancellation may come when its task has just ended
                self._connection.send(self._answer(message))

    def _answer(self, task: Task) -> Found | Failed | Cancelled:
        try:
            return self._do(task)
        except StylewireError as err:
            return Failed(err.reason, err.message)
        except Exception:  # noqa: BLE001 - the server writes it into its log
            return Failed("", traceback.format_exc())

    def _do(self, task: Task) -> Found | Cancelled:
        model = self._open(task)
        optimizer = Optimizer(model.synthesis, task, model.spread, self._device)
        for progress in optimizer.steps():
            self._connection.send(progress)
            if self._connection.poll():  # a cancellation, or the server has gone
                return Cancelled()
        return optimizer.found()

    def _open(self, task: Task) -> "_Model":
        """Read the networks of a task, unless they are those of the task before."""
        if self._model is None or self._model.digest != task.digest:
            self._model = None  # before the next one takes memory
            self._model = _Model(task, self._device)
        return self._model


class _Model:
    """The networks of a model directory.

    Attributes:
        digest: of the directory.
        synthesis: code -> image.
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


def serve(connection: Connection) -> None:
    """Do the tasks of a server, and end the process when it has gone."""
    options: WorkerOptions = connection.recv()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    torch._C._jit_set_profiling_executor(False)  # noqa: SLF001 - no public name exists; it would compile for minutes
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    with contextlib.suppress(EOFError, ConnectionError):
        Worker(connection, options.device).run()
    os._exit(0)  # taking PyTorch apart takes seconds, and everything was sent
