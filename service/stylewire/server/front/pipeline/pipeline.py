"""Jobs -> images: resolve latents to codes, compose codes, synthesize, encode. Every call is this recipe.

Here are the steps, and the calls that need no more: Generate and MixStyles. ``interpolation.py``, ``inversion.py`` and
``projection.py`` have the others.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TypeAlias

import numpy as np

from stylewire import latents
from stylewire.latents import Array
from stylewire.media.codecs import ImageFormat, Pixels
from stylewire.server.context import RequestContext
from stylewire.server.engine_api.engine import Engine, GraphRequest
from stylewire.server.engine_api.graphs import Arrays
from stylewire.server.engine_api.models import ModelInfo
from stylewire.server.front.pipeline import jobs, rendering
from stylewire.server.front.pipeline.provenance import Provenance
from stylewire.server.front.pipeline.results import Image, ImagesResult
from stylewire.server.front.preprocessing.face_search import Aligner
from stylewire.server.front.preprocessing.photos import AlignedPhoto

_ImageJob: TypeAlias = jobs.GenerateJob | jobs.MixJob | jobs.InterpolateJob


class Pipeline:
    """The steps of the recipe.

    Args:
        engine: runs graphs.
        executor: threads for what is neither a graph nor trivial: drawing noise, encoding images.
        aligner: finds the faces of photos.
        provenance: whether image files say that they are synthetic.

    Attributes:
        engine: as above.
        executor: as above.
        aligner: as above.
    """

    def __init__(self, engine: Engine, executor: Executor, aligner: Aligner, *, provenance: bool) -> None:
        self.engine, self.executor, self.aligner = engine, executor, aligner
        self._provenance = provenance

    async def generate(self, job: jobs.GenerateJob, call: RequestContext) -> ImagesResult:
        """Make one image of each latent."""
        if not job.model.styled:
            return await self.render_latents(job, job.latents, call)
        codes = await self.resolve(job.latents, call)
        return await self.render(job, codes, call, job.latents)

    async def mix(self, job: jobs.MixJob, call: RequestContext) -> ImagesResult:
        """Replace layers of a code, then make the image."""
        sources = (job.content, *(style.latent for style in job.styles))
        code, *others = await self.resolve(sources, call)
        for style, other in zip(job.styles, others, strict=True):
            code = latents.mix(code, other, style.layers, style.weight)
        return await self.render(job, [code], call)

    # --- latents -> codes --------------------------------------------------------------------------------------------

    async def resolve(self, sources: Sequence[jobs.Latent], call: RequestContext) -> list[Array]:
        """Resolve latents to codes float32[L, D], those of one network together."""
        codes: list[Array | None] = [source.code for source in sources]
        mapped, encoded = defaultdict(list), defaultdict(list)
        for index, source in enumerate(sources):
            if source.z is not None:
                mapped[source.model].append(index)
            elif source.photo is not None:
                encoded[source.photo.model, source.photo.graph].append(index)
        numbered = [(index, source.photo) for index, source in enumerate(sources) if source.photo]
        aligned = await self.aligner.align([photo for _, photo in numbered], call) if numbered else []
        photos = {index: photo for (index, _), photo in zip(numbered, aligned, strict=True)}
        for indices in mapped.values():
            found = await self.map([sources[index] for index in indices], call)
            for index, code in zip(indices, found, strict=True):
                codes[index] = code
        for indices in encoded.values():
            found = await self.encode([photos[index] for index in indices], call)
            for index, code in zip(indices, found, strict=True):
                codes[index] = code
        return [truncated(code, source) for code, source in zip(codes, sources, strict=True) if code is not None]

    async def map(self, sources: Sequence[jobs.Latent], call: RequestContext) -> list[Array]:
        """Map the z of latents of one model to codes float32[L, D], not truncated."""
        model = sources[0].model
        w = await self._run(model, "mapping", _mapping_inputs(sources), ("w",), call)  # [N, D]
        return list(latents.broadcast(np.asarray(w["w"], np.float32), model.manifest.layer_count))

    async def encode(self, photos: Sequence[AlignedPhoto], call: RequestContext) -> list[Array]:
        """Encode photos for one encoder to codes float32[L, D]."""
        inputs = {"image": np.stack([photo.input for photo in photos])}  # [N, C, H, W]
        codes = await self._run(photos[0].model, photos[0].graph, inputs, ("w_plus",), call)
        return list(np.asarray(codes["w_plus"], np.float32))

    # --- codes -> images ---------------------------------------------------------------------------------------------

    async def render(
        self, job: _ImageJob, codes: list[Array], call: RequestContext, sources: Sequence[jobs.Latent] = ()
    ) -> ImagesResult:
        """Make images of codes; ``sources`` are their latents, if each code is that of one latent."""
        inputs = await self._synthesis_inputs(job.model, codes, job.noise, call)
        provenance = Provenance(model=job.model, latents=sources, codes=codes, noise=job.noise)
        return ImagesResult(await self._draw(job.output, provenance, inputs, call), codes, call.timings)

    async def render_latents(
        self, job: _ImageJob, sources: Sequence[jobs.Latent], call: RequestContext
    ) -> ImagesResult:
        """Make images in one graph, z -> image, by a generator without styles."""
        provenance = Provenance(model=job.model, latents=sources)
        images = await self._draw(job.output, provenance, _mapping_inputs(sources), call)
        return ImagesResult(images, [], call.timings)

    async def reconstruct(
        self, job: jobs.InvertJob | jobs.ProjectJob, code: Array, noise: jobs.Noise, call: RequestContext
    ) -> tuple[Image, Pixels]:
        """Make the image of a code, in its form and as uint8[R, R, C]."""
        wanted = rendering.graph_output(job.output)
        inputs = await self._synthesis_inputs(job.model, [code], noise, call)
        arrays = await self._run(job.model, "synthesis", inputs, tuple({"pixels", wanted}), call)
        mark = self._mark(job.output, Provenance(model=job.model, codes=[code], noise=noise))
        image = await call.timed("encode", self.executor, rendering.encode, arrays[wanted][0], job.output, mark)
        return image, np.asarray(arrays["pixels"][0], np.uint8)

    async def _draw(
        self, output: jobs.Output, provenance: Provenance, inputs: Arrays, call: RequestContext
    ) -> list[Image]:
        """Run the graph that makes images; a thread that has rows of it also encodes them."""
        model = provenance.model
        result = await self.engine.run(
            GraphRequest(
                model=model,
                graph=model.image_graph,
                inputs=inputs,
                outputs=(rendering.graph_output(output),),
                deadline=call.deadline,
                convert=partial(rendering.encode_rows, output, self.executor, self._mark(output, provenance)),
                trace=call.spans,
            )
        )
        call.timings.count(result)
        return result.converted

    def _mark(self, output: jobs.Output, provenance: Provenance) -> rendering.Mark | None:
        """Find what files say about their origin; arrays say nothing."""
        if not self._provenance or not isinstance(output.form, ImageFormat):
            return None
        packets = provenance.model.packets
        return lambda row: packets.packet(provenance.describe(row))

    async def _synthesis_inputs(
        self, model: ModelInfo, codes: list[Array], noise: jobs.Noise, call: RequestContext
    ) -> Arrays:
        size = model.manifest.noise_size
        if noise.mode is jobs.NoiseMode.RANDOM:  # millions of numbers at 1024 px
            drawn = await call.timed("noise_inputs", self.executor, rendering.noise_inputs, noise, size, len(codes))
        else:
            drawn = rendering.noise_inputs(noise, size, len(codes))
        return {"w_plus": np.stack(codes), **drawn}

    async def _run(
        self, model: ModelInfo, graph: str, inputs: Arrays, outputs: tuple[str, ...], call: RequestContext
    ) -> Arrays:
        result = await self.engine.run(
            GraphRequest(
                model=model, graph=graph, inputs=inputs, outputs=outputs, deadline=call.deadline, trace=call.spans
            )
        )
        call.timings.count(result)
        return result.outputs


def truncated(code: Array, source: jobs.Latent) -> Array:
    """Truncate a code float32[L, D] as its latent asks for."""
    if source.psi is None:
        return code
    return latents.truncate(code, source.model.mean_code, source.psi, source.truncated_layers)


def _mapping_inputs(sources: Sequence[jobs.Latent]) -> dict[str, Array]:
    inputs = {"z": np.stack([source.z for source in sources if source.z is not None])}  # [N, Z]
    if sources[0].model.manifest.label_dim:
        inputs["label"] = np.stack([source.label for source in sources if source.label is not None])
    return inputs
