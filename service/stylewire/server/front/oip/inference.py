"""Tensors in, tensors out: one graph by itself, or all graphs of a model from z to pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stylewire import latents
from stylewire.latents import Array
from stylewire.server.engine.backends import Arrays
from stylewire.server.engine.models.model import Model
from stylewire.server.front.oip.signatures import WHOLE
from stylewire.server.front.pipeline import jobs, rendering
from stylewire.server.front.pipeline.results import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class InferJob:
    """A checked request.

    Attributes:
        model: that runs.
        graph: of it, or ``WHOLE``.
        inputs: name -> array with N rows; ``noise_strength`` and ``psi`` are float32[N].
        outputs: names of those that are wanted.
    """

    model: Model
    graph: str
    inputs: Arrays
    outputs: tuple[str, ...]

    @property
    def row_count(self) -> int:
        """N."""
        return len(next(iter(self.inputs.values())))

    @property
    def last_graph(self) -> str:
        """The graph that gives the outputs."""
        return self.graph or self.model.picture_graph


async def infer(job: InferJob, run: Run) -> Arrays:
    """Run a job; raises what ``Batcher.submit`` raises.

    Returns:
        Output name -> array with N rows, in the order in which they are wanted.
    """
    inputs: Arrays = job.inputs
    if job.graph == WHOLE and job.model.styled:
        inputs = await _codes(job, run)
    if job.last_graph == "synthesis":  # a strength, or nothing: what is not said is as in Generate
        inputs = {**rendering.noise_inputs(jobs.Noise(), 0, job.row_count), **inputs}
    outputs = await _submit(job.model, job.last_graph, inputs, job.outputs, run)
    return {name: outputs[name] for name in job.outputs}


async def _codes(job: InferJob, run: Run) -> Arrays:
    """Go from z to ``w_plus``."""
    given = {name: array for name, array in job.inputs.items() if name != "psi"}
    w = (await _submit(job.model, "mapping", given, ("w",), run))["w"]
    codes = latents.broadcast(np.asarray(w, np.float32), job.model.manifest.layer_count)  # [N, L, D]
    psi = job.inputs.get("psi")
    return {"w_plus": codes if psi is None else _truncated(codes, job.model.w_mean, psi.tolist())}


def _truncated(codes: Array, mean: Array, psi: Sequence[float]) -> Array:
    return np.stack([latents.truncate(code, mean, each) for code, each in zip(codes, psi, strict=True)])


async def _submit(model: Model, graph: str, inputs: Arrays, outputs: Sequence[str], run: Run) -> Arrays:
    result = await model.runner(graph).submit(inputs, outputs, run.deadline)
    run.add(result)
    return result.outputs
