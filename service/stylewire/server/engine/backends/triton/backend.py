"""Graphs that run on Triton Inference Server, or on anything that speaks its protocol.

What is needed here of a model directory is its manifest, the self-check and the mean code; its graph files are at
Triton, where a graph is the model ``<model>.<graph>``.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np

from stylewire.errors import DeadlineError
from stylewire.manifest import CHECK_FILE, ManifestError
from stylewire.server.engine.backends import BackendOptions, graph_name
from stylewire.server.engine.backends.cancellation import WAITERS
from stylewire.server.engine.backends.selfcheck import read_vectors, side
from stylewire.server.engine.backends.triton.call import Call, Result
from stylewire.server.engine.backends.triton.contract import Graph
from stylewire.server.engine.backends.triton.server_pool import TritonServers
from stylewire.server.engine_api.graphs import Arrays


class TritonBackend:
    """One graph at Triton.

    Batches that are in flight at once: as many as Triton runs, and one that waits there for its turn.

    Attributes:
        max_batch_size: rows that Triton takes at once; 0 for any number.
    """

    name = "triton"
    exclusive = False

    def __init__(self, path: Path, outputs: Sequence[str], options: BackendOptions) -> None:
        assert options.remote
        assert isinstance(options.remote.servers, TritonServers)
        model, version, self._servers = options.remote.model, options.remote.version, options.remote.servers
        graph, parity = graph_name(path), options.precision == "parity"
        vectors = read_vectors(path.parent / CHECK_FILE)
        inputs, expected = side(vectors, graph, "in"), side(vectors, graph, "out")
        if not inputs or not set(outputs) <= expected.keys():
            raise ManifestError(f"check.npz has no vectors for {model}.{graph}; export the model anew")
        self.device = self._servers.name
        self.precision = "fp32" if parity else "unknown"  # what it is at Triton is as exact as this, or nobody knows
        self.input_names = tuple(inputs)
        self._graph = Graph(name=f"{model}.{graph}", version=version, inputs=inputs, outputs=expected, parity=parity)
        contracts = self._servers.add(self._graph)
        self.max_batch_size = min((each.max_batch_size for each in contracts if each.max_batch_size), default=0)
        self.instances = options.instances or sum(each.instance_count for each in contracts) + 1

    def run(self, inputs: Arrays, outputs: Sequence[str], *, exclusive: bool = False) -> Arrays:  # noqa: ARG002
        """Run one batch; more rows than Triton takes at once run one part after the other."""
        size = len(next(iter(inputs.values())))
        most = self.max_batch_size or size
        parts = [
            self._run({name: inputs[name][start : start + most] for name in self.input_names}, outputs)
            for start in range(0, size, most)
        ]
        return (
            parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in outputs}
        )

    def close(self) -> None:
        """Leave the graph to Triton."""
        self._servers.remove(self._graph)

    def _run(self, inputs: Arrays, outputs: Sequence[str]) -> Arrays:
        """Run one call, for as long as somebody waits for it."""
        waiting, loop, results = WAITERS.get(), self._servers.loop, list[Result]()
        call = Call(self._graph, inputs, outputs, waiting.deadline if waiting else None)

        async def infer() -> None:
            results.append(await self._servers.infer(call))

        def release() -> None:
            for result in results:
                result.release()

        future = asyncio.run_coroutine_threadsafe(infer(), loop)
        if waiting:
            waiting.on_cancelled(future.cancel)
        try:
            future.result()
            return results[0].copy()
        except CancelledError as err:
            raise DeadlineError(f"nobody waits for {self._graph.name} any more") from err
        finally:  # the result may have come just when it was no longer wanted
            loop.call_soon_threadsafe(release)
