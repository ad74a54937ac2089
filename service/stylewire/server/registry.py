"""The models of a server: loading, self-check, warm-up, and finding them by name."""

import asyncio
import logging
import time
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

import numpy as np

from stylewire.errors import ModelNotFoundError, ModelNotReadyError, UnsupportedError
from stylewire.latents import Array
from stylewire.manifest import EncoderInfo, Manifest, ManifestError
from stylewire.server.backends import OUTPUTS, Arrays, Backend, graph_kind, graph_suffix, open_backend
from stylewire.server.batcher import Batcher
from stylewire.server.metrics import GraphMetrics, Metrics
from stylewire.server.settings import Settings

log = logging.getLogger(__name__)

CHECK_TOLERANCE = 2e-4
"""Largest difference in the self-check, relative to the range of the stored output."""


class State(Enum):
    """Whether a model answers."""

    LOADING = "loading"
    READY = "ready"
    CLOSED = "closed"


class Model:
    """A model directory that is served.

    Attributes:
        manifest: what the directory says of itself.
        digest: of all its files.
        backend: what really runs its graphs; known once it is loaded.
        device: where they really run.
        precision: the arithmetic they really run in.
    """

    def __init__(self, directory: Path, settings: Settings, metrics: Metrics) -> None:
        self.manifest = Manifest.read(directory)
        self.digest = self.manifest.digest()
        self.state = State.LOADING
        self.backend: str = settings.backend
        self.device: str = settings.device
        self.precision: str = self.manifest.precision
        self.graphs: tuple[str, ...] = self.manifest.graphs(graph_suffix(settings.backend))
        self._directory, self._settings, self._metrics = directory, settings, metrics
        self._backends: dict[str, Backend] = {}
        self._batchers: dict[str, Batcher] = {}
        self._w_mean: Array | None = None
        if not self.graphs:
            raise ManifestError(f"{directory} has no graphs for the backend {settings.backend}; export with --formats")

    @property
    def name(self) -> str:
        """The name that requests use."""
        return self.manifest.name

    @property
    def styled(self) -> bool:
        """Whether it has codes; a generator without styles goes from z to the picture in one graph."""
        return "generator" not in self.graphs

    @property
    def w_mean(self) -> Array:
        """float32[D], the center of truncation."""
        if self._w_mean is None:
            raise UnsupportedError(f"model {self.name!r} has no mean code, so it cannot truncate; leave it out")
        return self._w_mean

    def batcher(self, graph: str) -> Batcher:
        """Find what runs a graph.

        Raises:
            UnsupportedError: the model has no such graph.
            ModelNotReadyError: it is not loaded.
        """
        if graph not in self.graphs:
            raise UnsupportedError(f"model {self.name!r} has no {graph} network; it has {', '.join(self.graphs)}")
        if self.state is not State.READY:
            raise ModelNotReadyError(f"model {self.name!r} is {self.state.value}; retry", retry_after_seconds=1.0)
        return self._batchers[graph]

    def encoder(self, name: str) -> EncoderInfo:
        """Find an encoder by its name; an empty name is the only one or the one called ``encoder``.

        Raises:
            UnsupportedError: the model has no encoder at all.
            ModelNotFoundError: it has no encoder of this name.
        """
        encoders = {e.graph: e for e in self.manifest.encoders if e.graph in self.graphs}
        if not encoders:
            raise UnsupportedError(f"model {self.name!r} has no encoder, so it cannot take pictures")
        if not name and len(encoders) == 1:
            return next(iter(encoders.values()))
        found = encoders.get(name or "encoder")
        if found is None:
            known = ", ".join(encoders)
            raise ModelNotFoundError(
                f"model {self.name!r} has no encoder {name[:80]!r}; it has {known}",
                resource=("stylewire.Encoder", name[:80]),
            )
        return found

    def backlog_seconds(self, graph: str) -> float:
        """Predict how long a graph is busy with what waits."""
        return self._batchers[graph].backlog_seconds() if graph in self._batchers else 0.0

    async def load(self) -> None:
        """Verify the files, open the graphs, compare them with the stored vectors, run every batch size once.

        Raises:
            ManifestError: a file differs from the manifest, or a graph does not give the stored outputs.
            BackendUnavailableError: the backend or the device cannot be used here.
        """
        started = time.monotonic()
        learned = await asyncio.to_thread(self._open)
        for graph, backend in self._backends.items():
            batcher = Batcher(
                name=f"{self.name}.{graph}",
                run=backend.run,
                observer=GraphMetrics(self._metrics, self.name, graph),
                max_batch_size=self._settings.max_batch_size,
                max_queue_seconds=self._settings.max_queue_seconds,
            )
            for size, seconds in learned[graph]:
                batcher.costs.learn(size, seconds)
            self._batchers[graph] = batcher
        first = next(iter(self._backends.values()))
        self.backend, self.device, self.precision = first.name, first.device, first.precision
        self._metrics.model.labels(self.name, self.digest, self.backend, self.device, self.precision).set(1)
        self.state = State.READY
        log.info("model %s ready in %.2f s: %s", self.name, time.monotonic() - started, ", ".join(self.graphs))

    async def close(self) -> None:
        """Finish what waits and free the graphs."""
        self.state = State.CLOSED
        for batcher in self._batchers.values():
            await batcher.close()
        for backend in self._backends.values():
            backend.close()

    def _open(self) -> dict[str, list[tuple[int, float]]]:
        self.manifest.verify_files(self._directory)
        suffix = graph_suffix(self._settings.backend)
        learned = {}
        with np.load(self._directory / "check.npz", allow_pickle=False) as vectors:
            for graph in self.graphs:
                backend = open_backend(self._settings.backend, self._directory / (graph + suffix), self._settings)
                self._backends[graph] = backend
                inputs, expected = _vectors(vectors, graph, "in"), _vectors(vectors, graph, "out")
                _self_check(f"{self.name}.{graph}", backend, inputs, expected)
                learned[graph] = _warm_up(backend, inputs, graph, self._settings.max_batch_size)
        mean = self._directory / "w_mean.npy"
        self._w_mean = np.load(mean, allow_pickle=False) if mean.exists() else None
        return learned


class Registry:
    """All models of a server.

    Args:
        models: in any order; at least one.
        default: name of the model for requests that name none; empty for the only one or the first by name.
    """

    def __init__(self, models: Iterable[Model], default: str = "") -> None:
        self.models = {model.name: model for model in sorted(models, key=lambda model: model.name)}
        self.default = default or next(iter(self.models))
        if self.default not in self.models:
            raise ManifestError(f"--default-model {default!r} is not among the models {', '.join(self.models)}")

    @classmethod
    def open(cls, directory: Path, settings: Settings, metrics: Metrics) -> "Registry":
        """Find the model directories in a folder; a folder that is one itself counts as one.

        Raises:
            ManifestError: there is none, or a manifest is wrong.
        """
        found = sorted(path.parent for path in (*directory.glob("model.json"), *directory.glob("*/model.json")))
        if not found:
            raise ManifestError(f"{directory} holds no model directory; make one with stylewire-export model")
        models = [Model(path, settings, metrics) for path in found]
        names = [model.name for model in models]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ManifestError(f"{directory} holds two models named {', '.join(sorted(twice))}; rename one")
        return cls(models, settings.default_model)

    def get(self, name: str) -> Model:
        """Find a model; an empty name is the default.

        Raises:
            ModelNotFoundError: there is none of this name.
        """
        model = self.models.get(name or self.default)
        if model is None:
            raise ModelNotFoundError(
                f"no model {name[:80]!r}; this server has {', '.join(self.models)}",
                resource=("stylewire.Model", name[:80]),
            )
        return model

    @property
    def ready(self) -> bool:
        """Whether all models answer."""
        return all(model.state is State.READY for model in self.models.values())

    async def load(self) -> None:
        """Load all models, one after the other: they share the cores."""
        for model in self.models.values():
            await model.load()

    async def close(self) -> None:
        """Close all models."""
        await asyncio.gather(*(model.close() for model in self.models.values()))


def _vectors(vectors: np.lib.npyio.NpzFile, graph: str, side: str) -> Arrays:
    start = f"{graph}.{side}."
    return {name.removeprefix(start): vectors[name] for name in vectors.files if name.startswith(start)}


def _self_check(name: str, backend: Backend, inputs: Arrays, expected: Arrays) -> None:
    if not inputs or not expected:
        raise ManifestError(f"check.npz has no vectors for {name}; export the model anew")
    outputs = backend.run(inputs, tuple(expected))
    for output, array in expected.items():
        difference = np.abs(outputs[output].astype(np.float64) - array)
        limit = 1 if array.dtype == np.uint8 else CHECK_TOLERANCE * float(np.ptp(array))
        if not difference.max() <= limit:  # NaN must not pass
            raise ManifestError(
                f"{name}: {output} differs from the export by {difference.max():.3g}, limit {limit:.3g}"
            )


def _warm_up(backend: Backend, inputs: Arrays, graph: str, max_batch_size: int) -> list[tuple[int, float]]:
    """Run batches of 1, 2, 4 ... rows; what they cost is what the batcher knows when it starts."""
    learned = []
    outputs = OUTPUTS[graph_kind(graph)][:1]
    sizes = sorted({min(2**k, max_batch_size) for k in range(max_batch_size.bit_length() + 1)})
    for size in sizes:
        rows = {name: np.resize(array, (size, *array.shape[1:])) for name, array in inputs.items()}
        backend.run(rows, outputs)  # the first run of a size allocates
        started = time.monotonic()
        backend.run(rows, outputs)
        learned.append((size, time.monotonic() - started))
    return learned
