"""Serve with LitServe: uvicorn in front, a queue, workers are processes that each collect their own batch."""

import litserve
from fastapi import Response

from serving.peers.generator import Generator
from serving.peers.settings import Settings


class Api(litserve.LitAPI):
    """``{"seed": 7}`` -> JPEG file."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe calls it so
        """Open the graphs."""
        self._generator = Generator.load()

    def decode_request(self, request: dict[str, int]) -> int:
        """Read a seed."""
        return request["seed"]

    def batch(self, inputs: list[int]) -> list[int]:
        """Leave the seeds a list."""
        return inputs

    def predict(self, x: list[int]) -> list[bytes]:
        """Run one batch."""
        return self._generator.generate(x)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """Leave the files a list."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """Answer with the file itself."""
        return Response(output, media_type="image/jpeg")


if __name__ == "__main__":
    settings = Settings.load()
    api = Api(max_batch_size=settings.batch_size, batch_timeout=settings.wait_ms / 1000)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=settings.workers, timeout=60)
    server.run(
        host="127.0.0.1",
        port=settings.port,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
