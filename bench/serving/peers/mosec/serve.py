"""Serve with mosec: the Rust front batches, workers are processes."""

import sys

import mosec

from serving.peers.generator import Generator
from serving.peers.settings import Settings


class Worker(mosec.Worker):
    """Seed as text -> JPEG file."""

    def __init__(self) -> None:
        self._generator = Generator.load()

    def deserialize(self, data: bytes) -> int:
        """Read a seed."""
        return int(data)

    def serialize(self, data: bytes) -> bytes:
        """Pass the file on."""
        return data

    def forward(self, data: list[int]) -> list[bytes]:
        """Run one batch."""
        return self._generator.generate(data)


if __name__ == "__main__":
    settings = Settings.load()
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(settings.port), "--timeout", "60000"]
    server = mosec.Server()
    server.append_worker(
        Worker, num=settings.workers, max_batch_size=settings.batch_size, max_wait_time=int(settings.wait_ms)
    )
    server.run()
