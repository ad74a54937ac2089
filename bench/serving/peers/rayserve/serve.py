"""Serve with Ray Serve: HTTP proxy, replicas are processes, ``serve.batch`` in each of them."""

import os

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from serving.peers.generator import Generator
from serving.peers.settings import Settings

settings = Settings.load()


@serve.deployment(
    num_replicas=settings.workers,
    max_ongoing_requests=64,
    ray_actor_options={"num_cpus": settings.threads, "runtime_env": {"env_vars": dict(settings.to_environment())}},
)
class Api:
    """Seed as text -> JPEG file."""

    def __init__(self) -> None:
        self._generator = Generator.load()

    @serve.batch(max_batch_size=settings.batch_size, batch_wait_timeout_s=settings.wait_ms / 1000)
    async def generate(self, seeds: list[int]) -> list[bytes]:
        """Run one batch."""
        return self._generator.generate(seeds)

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        return Response(await self.generate(int(await request.body())), media_type="image/jpeg")


if __name__ == "__main__":
    os.environ["RAY_AUTH_MODE"] = "disabled"  # or it writes a token into the home folder
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"
    ray.init(num_cpus=len(os.sched_getaffinity(0)), include_dashboard=False, object_store_memory=200 << 20)
    serve.start(http_options={"host": "127.0.0.1", "port": settings.port})
    serve.run(Api.bind(), blocking=True, logging_config={"enable_access_log": False})
