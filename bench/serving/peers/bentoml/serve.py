"""Serve with BentoML: adaptive batching in each of its worker processes."""

import base64
import os
import sys
from pathlib import Path

import bentoml

from serving.peers.generator import Generator
from serving.peers.settings import Settings

settings = Settings.load()


@bentoml.service(
    name="generator", workers=settings.workers, traffic={"timeout": 60}, logging={"access": {"enabled": False}}
)
class Api:
    """``{"seeds": [7]}`` -> a list of one JPEG file as base64: a batched call of BentoML is a list both ways."""

    def __init__(self) -> None:
        self._generator = Generator.load()

    @bentoml.api(batchable=True, max_batch_size=settings.batch_size, max_latency_ms=int(settings.wait_ms))
    def generate(self, seeds: list[int]) -> list[str]:
        """Run one batch."""
        return [base64.b64encode(file).decode() for file in self._generator.generate(seeds)]


if __name__ == "__main__":
    program = str(Path(sys.executable).with_name("bentoml"))
    os.chdir(Path(__file__).parent)
    os.execv(program, [program, "serve", "serve:Api", "--host", "127.0.0.1", "--port", str(settings.port)])  # noqa: S606
