"""Serve with KServe's Python server: gRPC v2. It has no batcher of its own (KServe's is a sidecar in the cluster)."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

import kserve
import numpy as np

from serving.peers.generator import Generator
from serving.peers.settings import Settings, free_port


class Model(kserve.Model):
    """INT64 ``seed`` -> BYTES ``image``; as many threads as the other peers have workers, one picture each."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("generator")
        self._generator = Generator.load()
        self._pool = ThreadPoolExecutor(settings.workers)
        self.ready = True

    async def predict(
        self,
        payload: kserve.InferRequest,
        headers: dict[str, str] | None = None,  # noqa: ARG002 - KServe calls it so
        response_headers: dict[str, str] | None = None,  # noqa: ARG002
    ) -> kserve.InferResponse:
        """Run one request."""
        seeds = payload.inputs[0].as_numpy().ravel().tolist()
        files = await asyncio.get_running_loop().run_in_executor(self._pool, self._generator.generate, seeds)
        output = kserve.InferOutput("image", [len(files)], "BYTES")
        output.set_data_from_numpy(np.array(files, object))
        return kserve.InferResponse(payload.id, "generator", [output])


if __name__ == "__main__":
    settings = Settings.load()
    server = kserve.ModelServer(http_port=free_port(), grpc_port=settings.port, enable_latency_logging=False)
    logging.getLogger("kserve").setLevel(logging.WARNING)  # or it writes a line a request
    server.start([Model(settings)])
