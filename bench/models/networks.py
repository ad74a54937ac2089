"""The networks that are measured: where their files are, and what goes in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.models import checkpoint_of, seeded, seeded_narrow, seeded_psp
from stylewire.manifest import Manifest
from stylewire.server.engine.backends import OUTPUTS
from stylewire.server.engine_api.graphs import Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One graph of a seeded model.

    Attributes:
        title: what the table calls it.
        directory: of the model.
        graph: ``synthesis``, ``mapping`` or ``encoder``.
        batches: sizes that are measured if nobody asks for others: a large network gains little from more than one.
    """

    title: str
    directory: Path
    graph: str = "synthesis"
    batches: tuple[int, ...] = (1, 4, 8)

    @property
    def checkpoint(self) -> Path:
        """The file that the graph was exported from."""
        return checkpoint_of(self.directory, "encoder" if self.graph == "encoder" else "generator")

    @property
    def output(self) -> str:
        """The output that a server would ask for."""
        return OUTPUTS[self.graph][0]

    def inputs(self, batch: int) -> Arrays:
        """Draw the seeded inputs of one batch."""
        manifest, random = Manifest.read(self.directory), np.random.RandomState(batch)
        if self.graph == "mapping":
            return {"z": random.randn(batch, manifest.z_dim).astype(np.float32)}
        if self.graph == "encoder":
            (info,) = manifest.encoders
            shape = (batch, info.input_channels, info.input_height_px, info.input_width_px)
            return {"image": random.uniform(-1, 1, shape).astype(np.float32)}
        codes = random.randn(batch, manifest.layer_count, manifest.w_dim).astype(np.float32) * np.float32(0.5)
        one, zero = np.ones(batch, np.float32), np.zeros((batch, 1), np.float32)
        return {"w_plus": codes, "noise_strength": one, "noise": zero}


NETWORKS: dict[str, Callable[[], Network]] = {
    "narrow64": lambda: Network(title="64 px, narrow", directory=seeded_narrow()),
    "256": lambda: Network(title="256 px", directory=seeded(256)),
    "1024": lambda: Network(title="1024 px", directory=seeded(1024), batches=(1,)),
    "mapping": lambda: Network(title="mapping, 8 x 512", directory=seeded(256), graph="mapping"),
    "encoder": lambda: Network(title="pSp encoder, 256 px", directory=seeded_psp(), graph="encoder", batches=(1,)),
}
"""Name on the command line -> finds the network, and builds its model if need be."""
DEFAULT_NETWORKS = ("narrow64", "256", "mapping", "encoder")
