"""How a peer is deployed, handed from the runner to the server's process."""

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a peer is deployed; crosses over as environment variables ``PEER_*``.

    Attributes:
        model: a model directory of stylewire.
        port: on 127.0.0.1.
        workers: processes that each open the graphs.
        threads: of onnxruntime in each worker.
        batch_size: the most seeds in a batch.
        wait_ms: how long a batch may wait for more seeds.
    """

    model: str
    port: int
    workers: int = 1
    threads: int = 2
    batch_size: int = 8
    wait_ms: float = 0

    @classmethod
    def load(cls) -> Self:
        """Read the environment."""
        kinds = {"model": str, "wait_ms": float}
        return cls(**{name: kinds.get(name, int)(os.environ[f"PEER_{name.upper()}"]) for name in cls.__slots__})

    def to_environment(self) -> Mapping[str, str]:
        """Make the variables that ``load`` reads."""
        return {f"PEER_{name.upper()}": str(value) for name, value in asdict(self).items()}


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
