"""Tensors in, tensors out: one graph by itself, or all graphs of a model from z to pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stylewire import latents
from stylewire.latents import Array
from stylewire.server.context import RequestContext
from stylewire.server.engine_api.engine import Engine, GraphRequest
from stylewire.server.engine_api.graphs import Arrays
from stylewire.server.engine_api.models import ModelInfo
from stylewire.server.front.oip.signatures import WHOLE
from stylewire.server.front.pipeline import jobs, rendering


@dataclass(frozen=True, slots=True, kw_only=True)
class InferJob:
    """A checked request.

    Attributes:
        model: that runs.
        graph: of it, or ``WHOLE``.
        inputs: name -> array with N rows; ``noise_strength`` and ``psi`` are float32[N].
        outputs: names of those that are wanted.
    """

    model: ModelInfo
    graph: str
    inputs: Arrays
    outputs: tuple[str, ...]

    @property
    def row_count(self) -> int:
        """N."""
        return len(next(iter(self.inputs.values())))

    @property
    def last_graph(self) -> str:
        """The graph that has the outputs."""
        return self.graph or self.model.image_graph


async def infer(engine: Engine, job: InferJob, call: RequestContext) -> Arrays:
    """Run a job; raises what ``Engine.run`` raises.

    Returns:
        Output name -> array with N rows, in the order in which they are wanted.
    """
    inputs: Arrays = job.inputs
    if job.graph == WHOLE and job.model.styled:
        inputs = await _codes(engine, job, call)
    if job.last_graph == "synthesis":  # a strength, or nothing: what is not said is as in Generate
        inputs = {**rendering.noise_inputs(jobs.Noise(), 0, job.row_count), **inputs}
    outputs = await _run(engine, call, job.model, job.last_graph, inputs=inputs, outputs=job.outputs)
    return {name: outputs[name] for name in job.outputs}


async def _codes(engine: Engine, job: InferJob, call: RequestContext) -> Arrays:
    """Go from z to ``w_plus``."""
    inputs = {name: array for name, array in job.inputs.items() if name != "psi"}
    w = (await _run(engine, call, job.model, "mapping", inputs=inputs, outputs=("w",)))["w"]
    codes = latents.broadcast(np.asarray(w, np.float32), job.model.manifest.layer_count)  # [N, L, D]
    psi = job.inputs.get("psi")
    return {"w_plus": codes if psi is None else _truncated(codes, job.model.mean_code, psi.tolist())}


def _truncated(codes: Array, mean: Array, psi: Sequence[float]) -> Array:
    return np.stack([latents.truncate(code, mean, each) for code, each in zip(codes, psi, strict=True)])


async def _run(  # noqa: PLR0913 - what a run takes
    engine: Engine, call: RequestContext, model: ModelInfo, graph: str, *, inputs: Arrays, outputs: Sequence[str]
) -> Arrays:
    request = GraphRequest(
        model=model, graph=graph, inputs=inputs, outputs=outputs, deadline=call.deadline, trace=call.spans
    )
    result = await engine.run(request)
    call.timings.count(result)
    return result.outputs
