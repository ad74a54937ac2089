"""Models as a front sees them: what a manifest says, and what is loaded of it."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from stylewire.errors import ModelNotFoundError, ModelNotReadyError, StylewireError, UnsupportedError
from stylewire.latents import Array
from stylewire.manifest import EncoderInfo, Manifest
from stylewire.media.provenance import Packets

_keys = itertools.count(1)


class State(Enum):
    """Whether a model answers."""

    LOADING = "loading"
    READY = "ready"
    RETIRING = "retiring"
    """Replaced or unloaded: it answers the calls that have it, and no new ones."""
    CLOSED = "closed"
    FAILED = "failed"
    """Its directory could not be loaded; only its name is known."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class ModelInfo:
    """What a model directory says about itself. Requests are validated against it; it holds no runtime.

    Attributes:
        key: differs from one load of a directory to the next; requests of the engine name it.
        manifest: of the directory.
        version: of the model of this name; empty where it has only one.
        digest: of all its files.
        graphs: those that can run here.
        w_mean: float32[D], the center of truncation; None where the model has none.
        packets: what the files of its images say about their origin.
        name: what requests call it.
        reference: what a request calls exactly this version.
        styled: whether it has codes; a generator without styles goes from z to the image in one graph.
        image_graph: the graph that makes images.
    """

    manifest: Manifest
    version: str
    digest: str
    graphs: tuple[str, ...]
    w_mean: Array | None = None
    key: int = field(default_factory=lambda: next(_keys))
    packets: Packets = field(init=False)
    name: str = field(init=False)
    reference: str = field(init=False)
    styled: bool = field(init=False)
    image_graph: str = field(init=False)

    def __post_init__(self) -> None:
        name, styled = self.manifest.name, "generator" not in self.graphs
        derived = {
            "packets": Packets(name, self.digest),
            "name": name,
            "reference": f"{name}@{self.version}" if self.version else name,
            "styled": styled,
            "image_graph": "synthesis" if styled else "generator",
        }
        for attribute, value in derived.items():
            object.__setattr__(self, attribute, value)

    @property
    def mean_code(self) -> Array:
        """float32[D], the center of truncation.

        Raises:
            UnsupportedError: the model has none.
        """
        if self.w_mean is None:
            raise UnsupportedError(f"model {self.name!r} has no mean code, so it cannot truncate; leave it out")
        return self.w_mean

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What runs a graph, or was compared with what does.

    Attributes:
        backend: such as ``onnxruntime``.
        precision: the arithmetic that it really runs in.
        chosen: whether it runs the graph.
        rows_per_second: as measured; 0 if it was not.
        problem: why it is out; empty if it is not.
    """

    backend: str
    precision: str
    chosen: bool
    rows_per_second: float = 0.0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """A model at one moment.

    Attributes:
        info: what it is.
        state: whether it answers.
        backend: what really runs its graphs; the setting until it is loaded.
        device: where they really run; likewise.
        precision: the arithmetic they really run in; likewise.
        runtimes: of each graph that is loaded.
        resident_bytes: memory that loading it took.
        runnable: the graphs that can run now.
    """

    info: ModelInfo
    state: State
    backend: str
    device: str
    precision: str
    runtimes: Mapping[str, tuple[Runtime, ...]] = field(default_factory=dict)
    resident_bytes: int = 0
    runnable: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        answers = self.state in (State.READY, State.RETIRING)
        object.__setattr__(self, "runnable", frozenset(self.info.graphs if answers else ()))

    def require(self, graph: str) -> None:
        """Refuse a graph that cannot run.

        Raises:
            UnsupportedError: the model has no such graph.
            ModelNotReadyError: it is not loaded.
        """
        if err := self.refusal(graph):
            raise err

    def refusal(self, graph: str) -> StylewireError | None:
        """Return why a graph cannot run; None if it can."""
        info = self.info
        if graph not in info.graphs:
            return UnsupportedError(f"model {info.name!r} has no {graph} network; it has {', '.join(info.graphs)}")
        if graph not in self.runnable:
            message = f"model {info.reference!r} is {self.state.value}; retry"
            return ModelNotReadyError(message, retry_after_seconds=1.0)
        return None
