"""Jobs -> pictures: resolve latents to codes, compose codes, synthesize, encode. Every call is this recipe."""

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import ParamSpec, TypeAlias, TypeVar

import numpy as np

from stylewire import latents
from stylewire.keyframes import CubicPath, LinePath, frame_positions, segment
from stylewire.latents import Array
from stylewire.media.codecs import ImageFormat, Pixels
from stylewire.server import tracing
from stylewire.server.engine.backends import Arrays
from stylewire.server.engine.models.model import Model
from stylewire.server.engine.projection.projector import Projector
from stylewire.server.engine.projection.tasks import Found, Progress, Task
from stylewire.server.front.pipeline import jobs, projection, rendering
from stylewire.server.front.pipeline.interpolation import ZWalk
from stylewire.server.front.pipeline.provenance import Origins
from stylewire.server.front.pipeline.results import Answer, InvertAnswer, Picture, ProjectionAnswer, ProjectionStep, Run

P = ParamSpec("P")
T = TypeVar("T")
_CodeAt: TypeAlias = Callable[[float, Run], Awaitable[Array]]
"""Position in units of keyframes -> code float32[L, D]."""
_PictureJob: TypeAlias = jobs.GenerateJob | jobs.MixJob | jobs.InterpolateJob


class Pipeline:
    """Runs jobs.

    Args:
        executor: threads for what is neither a graph nor trivial: drawing noise, encoding pictures.
        projector: optimizes codes.
        look_ahead_frames: frames of an interpolation that are made before the reader has taken them.
        provenance: whether picture files say that they are synthetic.
    """

    def __init__(self, executor: Executor, projector: Projector, look_ahead_frames: int, *, provenance: bool) -> None:
        self._executor, self._projector = executor, projector
        self._look_ahead_frames = look_ahead_frames
        self._provenance = provenance

    async def generate(self, job: jobs.GenerateJob, run: Run) -> Answer:
        """Make one picture for each latent."""
        if not job.model.styled:
            return await self._answer_without_styles(job, job.latents, run)
        codes = await self._codes(job.latents, run)
        return await self._answer(job, codes, run, job.latents)

    async def mix(self, job: jobs.MixJob, run: Run) -> Answer:
        """Replace layers of a code, then make the picture."""
        sources = (job.content, *(style.latent for style in job.styles))
        code, *lent = await self._codes(sources, run)
        for style, other in zip(job.styles, lent, strict=True):
            code = latents.mix(code, other, style.layers, style.weight)
        return await self._answer(job, [code], run)

    async def invert(self, job: jobs.InvertJob, run: Run) -> InvertAnswer:
        """Find the code of a photo; on request also make the picture of the code and measure how far off it is."""
        if job.refinement:
            self._projector.check(job.model.digest, job.refinement.step_count, run.deadline)
        (code,) = await self._encode([job.photo], run)
        if job.refinement:
            code = await self._refine(job.model, job.refinement, code, run)
        seen = rendering.show_input(job.photo)
        aligned = None if seen is None else await self._timed(run, rendering.encode_input, job.photo, seen, job.output)
        reconstruction = distortion = None
        if job.return_reconstruction:
            reconstruction, pixels = await self._reconstruct(job, code, jobs.Noise(), run)
            if seen is not None:
                distortion = await self._timed(run, rendering.distortion, pixels, seen)
        return InvertAnswer(code, aligned, reconstruction, distortion, run)

    async def interpolate(self, job: jobs.InterpolateJob, run: Run) -> AsyncGenerator[Answer]:
        """Make the frames in order, a few ahead of the reader."""
        frame_at = await self._frames(job, run)
        pending: deque[asyncio.Future[Answer]] = deque()
        try:
            for index in range(job.frame_count):
                pending.append(asyncio.ensure_future(frame_at(index, Run(run.deadline))))
                if len(pending) == self._look_ahead_frames:
                    yield await pending.popleft()
            while pending:
                yield await pending.popleft()
        finally:  # the reader has left, or a frame failed: nobody wants the others
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def project(self, job: jobs.ProjectJob, run: Run) -> AsyncGenerator[ProjectionStep | ProjectionAnswer]:
        """Optimize a code toward a picture: tell the steps that the reader takes, then what was found."""
        wanted, model, last = job.refinement, job.model, None
        self._projector.check(model.digest, wanted.step_count, run.deadline)
        if job.photo:
            (start,) = await self._encode([job.photo], run)
        else:
            start = latents.broadcast(model.w_mean, model.manifest.layer_count)
        task = projection.to_task(model, wanted, start, encoded=job.photo is not None)
        async with contextlib.aclosing(projection.events(self._projector, task, run)) as events:
            async for event in events:
                if isinstance(event, Found):
                    assert last is not None
                    yield await self._projected(job, task, last, event, run)
                else:
                    last, picture = event, None
                    if event.code is not None:
                        picture, _ = await self._reconstruct(job, event.code, projection.noise_of(event), run)
                    yield ProjectionStep(progress=event, picture=picture)

    async def _refine(self, model: Model, wanted: jobs.Refinement, code: Array, run: Run) -> Array:
        """Improve an encoder's answer."""
        task = projection.to_task(model, wanted, code, encoded=True)
        async with contextlib.aclosing(projection.events(self._projector, task, run)) as events:
            async for event in events:
                if isinstance(event, Found):
                    code = event.code
        return code

    async def _projected(
        self, job: jobs.ProjectJob, task: Task, last: Progress, found: Found, run: Run
    ) -> ProjectionAnswer:
        """Draw what was found beside what it started from."""
        wanted = job.refinement.target
        seen = rendering.show_target(wanted)
        _, before = await self._reconstruct(job, task.start, jobs.Noise(), run)
        picture, after = await self._reconstruct(job, found.code, projection.noise_of(found), run)
        start_distortion = await self._timed(run, rendering.distortion, before, seen)
        distortion = await self._timed(run, rendering.distortion, after, seen)
        assert start_distortion is not None
        assert distortion is not None
        return ProjectionAnswer(
            last=last,
            code=found.code,
            noise=found.noise,
            target=await self._timed(run, rendering.encode_target, wanted, job.output),
            reconstruction=picture,
            start_distortion=start_distortion,
            distortion=distortion,
            run=run,
        )

    async def _reconstruct(
        self, job: jobs.InvertJob | jobs.ProjectJob, code: Array, noise: jobs.Noise, run: Run
    ) -> tuple[Picture, Pixels]:
        """Make the picture of a code, in its form and as uint8[R, R, C]."""
        wanted = rendering.graph_output(job.output)
        inputs = await self._synthesis_inputs(job.model, [code], noise, run)
        arrays = await _run_graph(job.model, "synthesis", inputs, {"pixels", wanted}, run)
        mark = self._mark(job.output, Origins(model=job.model, codes=[code], noise=noise))
        picture = await self._timed(run, rendering.encode, arrays[wanted][0], job.output, mark)
        return picture, np.asarray(arrays["pixels"][0], np.uint8)

    async def _frames(self, job: jobs.InterpolateJob, run: Run) -> Callable[[int, Run], Awaitable[Answer]]:
        """Lay the path; frames are made when they are needed, since the codes of all may be hundreds of MB."""
        positions = frame_positions(len(job.keyframes), job.frame_count, job.looped, job.easing).tolist()
        if not job.model.styled:
            walk = ZWalk(job.keyframes, job.method, looped=job.looped)

            async def frame_without_styles(index: int, run: Run) -> Answer:
                return await self._answer_without_styles(job, [walk.at(positions[index])], run)

            return frame_without_styles
        code_at = await self._code_path(job, run)

        async def frame(index: int, run: Run) -> Answer:
            return await self._answer(job, [await code_at(positions[index], run)], run)

        return frame

    async def _code_path(self, job: jobs.InterpolateJob, run: Run) -> _CodeAt:
        if job.method is jobs.Method.SLERP:
            return partial(self._code_on_circle, job.keyframes, ZWalk(job.keyframes, job.method, looped=job.looped))
        codes = np.stack(await self._codes(job.keyframes, run))  # [K, L, D]
        path: CubicPath | LinePath = LinePath(codes)
        if job.method is jobs.Method.CUBIC:  # a spline through hundreds of large knots
            path = await self._off_loop(CubicPath.through, codes, looped=job.looped)

        async def on_path(position: float, run: Run) -> Array:  # noqa: ARG001 - nothing takes time here
            return path.at(position)

        return on_path

    async def _code_on_circle(
        self, keyframes: tuple[jobs.Latent, ...], walk: ZWalk, position: float, run: Run
    ) -> Array:
        """Make the code of a z between two keyframes; their truncations go over linearly."""
        (code,) = await self._map([walk.at(position)], run)
        start, stop, fraction = segment(position, len(keyframes))
        return latents.lerp(_truncated(code, keyframes[start]), _truncated(code, keyframes[stop]), fraction)

    async def _codes(self, sources: Sequence[jobs.Latent], run: Run) -> list[Array]:
        """Resolve latents to codes float32[L, D], those of one network together."""
        codes: list[Array | None] = [source.code for source in sources]
        mapped, encoded = defaultdict(list), defaultdict(list)
        for index, source in enumerate(sources):
            if source.z is not None:
                mapped[source.model].append(index)
            elif source.photo is not None:
                encoded[source.photo.model, source.photo.graph].append(index)
        for indices in mapped.values():
            found = await self._map([sources[index] for index in indices], run)
            for index, code in zip(indices, found, strict=True):
                codes[index] = code
        for indices in encoded.values():
            given = [photo for index in indices if (photo := sources[index].photo)]
            for index, code in zip(indices, await self._encode(given, run), strict=True):
                codes[index] = code
        return [_truncated(code, source) for code, source in zip(codes, sources, strict=True) if code is not None]

    async def _map(self, sources: Sequence[jobs.Latent], run: Run) -> list[Array]:
        model = sources[0].model
        outputs = await _run_graph(model, "mapping", _mapping_inputs(sources), {"w"}, run)
        return list(latents.broadcast(np.asarray(outputs["w"], np.float32), model.manifest.layer_count))

    async def _encode(self, given: Sequence[jobs.Photo], run: Run) -> list[Array]:
        inputs = {"image": np.stack([photo.input for photo in given])}  # [N, C, H, W]
        outputs = await _run_graph(given[0].model, given[0].graph, inputs, {"w_plus"}, run)
        return list(np.asarray(outputs["w_plus"], np.float32))

    async def _answer(
        self, job: _PictureJob, codes: list[Array], run: Run, sources: Sequence[jobs.Latent] = ()
    ) -> Answer:
        """Make pictures of codes; ``sources`` are their latents, if each code is that of one latent."""
        inputs = await self._synthesis_inputs(job.model, codes, job.noise, run)
        origins = Origins(model=job.model, latents=sources, codes=codes, noise=job.noise)
        return Answer(await self._draw(job.output, origins, inputs, run), codes, run)

    async def _answer_without_styles(self, job: _PictureJob, sources: Sequence[jobs.Latent], run: Run) -> Answer:
        """Make pictures in one graph, z -> image."""
        origins = Origins(model=job.model, latents=sources)
        return Answer(await self._draw(job.output, origins, _mapping_inputs(sources), run), [], run)

    async def _draw(self, output: jobs.Output, origins: Origins, inputs: Arrays, run: Run) -> list[Picture]:
        """Run the graph that makes pictures; the thread that runs it also encodes them."""
        encode = partial(rendering.encode_rows, output, self._executor, self._mark(output, origins))
        runner = origins.model.runner(origins.model.picture_graph)
        result = await runner.submit(inputs, (rendering.graph_output(output),), run.deadline, encode)
        run.add(result)
        return result.converted

    def _mark(self, output: jobs.Output, origins: Origins) -> rendering.Mark | None:
        """Find what files say about their origin; arrays say nothing."""
        if not self._provenance or not isinstance(output.form, ImageFormat):
            return None
        packets = origins.model.packets
        return lambda row: packets.packet(origins.describe(row))

    async def _synthesis_inputs(self, model: Model, codes: list[Array], noise: jobs.Noise, run: Run) -> Arrays:
        size = model.manifest.noise_size
        if noise.mode is jobs.NoiseMode.RANDOM:  # millions of numbers at 1024 px
            drawn = await self._timed(run, rendering.noise_inputs, noise, size, len(codes))
        else:
            drawn = rendering.noise_inputs(noise, size, len(codes))
        return {"w_plus": np.stack(codes), **drawn}

    async def _timed(self, run: Run, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        started = time.monotonic()
        value = await self._off_loop(function, *args, **kwargs)
        ended = time.monotonic()
        run.encoding_seconds += ended - started
        tracing.phase(function.__name__, started, ended)
        return value

    async def _off_loop(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))


async def _run_graph(model: Model, graph: str, inputs: Arrays, outputs: set[str], run: Run) -> Arrays:
    result = await model.runner(graph).submit(inputs, tuple(outputs), run.deadline)
    run.add(result)
    return result.outputs


def _truncated(code: Array, source: jobs.Latent) -> Array:
    if source.psi is None:
        return code
    return latents.truncate(code, source.model.w_mean, source.psi, source.truncated_layers)


def _mapping_inputs(sources: Sequence[jobs.Latent]) -> dict[str, Array]:
    inputs = {"z": np.stack([source.z for source in sources if source.z is not None])}  # [N, Z]
    if sources[0].model.manifest.label_dim:
        inputs["label"] = np.stack([source.label for source in sources if source.label is not None])
    return inputs
