"""The networks that are measured: seeded, in the sizes that were published."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from models.official import official_graph
from serving.models import full_encoder, seeded_generator
from stylewire_export.graphs import Graph, encoder_graph, synthesis_graph
from stylewire_export.networks.encoder import Encoder, make_encoder

ROOFLINE = {256: 8760.0, 1024: 5030.0, "encoder": 5400.0}
"""Images a second that an H200 allows, at 790 TFLOP/s and 4.3 TB/s: the slower of products and bytes of a network."""
CODE_SCALE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network.

    Attributes:
        name: for the table.
        graph: in the exported form, float32, on the CPU.
        official: makes it in the published form.
        roofline: images a second at most; None where nobody counted.
    """

    name: str
    graph: Graph
    official: Callable[[], Graph]
    roofline: float | None

    def inputs(self, batch: int) -> dict[str, np.ndarray]:
        """Draw the inputs of one batch, as a server gets them: stored noise, no drawn one."""
        random = np.random.RandomState(batch)
        if self.graph.name == "encoder":
            shape = self.graph.examples(1)["image"].shape[1:]
            return {"image": random.uniform(-1, 1, (batch, *shape)).astype(np.float32)}
        shape = self.graph.examples(1)["w_plus"].shape[1:]
        return {
            "w_plus": (random.randn(batch, *shape) * CODE_SCALE).astype(np.float32),
            "noise_strength": np.ones(batch, np.float32),
            "noise": np.zeros((batch, 1), np.float32),
        }


def synthesis(resolution_px: int, folder: Path) -> Subject:
    """A synthesis network; the published form is built from a checkpoint, which is written to the folder."""
    generator = seeded_generator(resolution_px)
    checkpoint = folder / f"{resolution_px}.pt"
    torch.save({"g_ema": generator.state_dict()}, checkpoint)
    return Subject(
        name=f"{resolution_px} px",
        graph=synthesis_graph(generator),
        official=lambda: official_graph(checkpoint, "synthesis"),
        roofline=ROOFLINE.get(resolution_px),
    )


def encoder(*, quick: bool) -> Subject:
    """The encoder of pSp, which is published in the form that is exported; a tiny one for a try without a GPU."""
    network = full_encoder()
    if quick:
        network = _tiny(network)
    graph = encoder_graph("encoder", network, torch.zeros(network.config.layer_count, network.config.w_dim))
    return Subject(
        name="encoder" + (", tiny" if quick else ""),
        graph=graph,
        official=lambda: replace(graph, module=copy.deepcopy(graph.module)),
        roofline=None if quick else ROOFLINE["encoder"],
    )


def _tiny(network: Encoder) -> Encoder:
    torch.manual_seed(1)
    config = replace(
        network.config,
        input_size_px=(64, 64),
        layer_count=8,
        w_dim=32,
        widths=(8, 8, 8, 16, 32),
        unit_counts=(1, 1, 1, 1),
        squeeze_widths=(2, 2, 2, 2),
        head_depths=(2, 3, 4),
    )
    return make_encoder(config).eval()
