"""Two ways to a picture whose graphs are at Triton: through stylewire, and by calling Triton as a client would."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient

from stylewire import pb
from stylewire.manifest import Manifest
from stylewire.tensors import to_array

LARGE = [("grpc.max_receive_message_length", -1)]


@dataclass(slots=True)
class Turn:
    """What some callers got in a turn.

    Attributes:
        latencies: seconds of each call.
        images_per_second: of all callers together.
        batch_sizes: rows of the batches that the calls were in.
    """

    latencies: list[float] = field(default_factory=list)
    images_per_second: float = 0.0
    batch_sizes: list[int] = field(default_factory=list)

    @property
    def p50_ms(self) -> float:
        """The median latency."""
        return float(np.median(self.latencies)) * 1e3


class Front:
    """Calls ``Generate`` for pixels, one latent a call.

    Args:
        address: of stylewire.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, LARGE)
        self._stub = pb.StyleGanServiceStub(self._channel)
        self._seed = 0

    async def run(self) -> tuple[int, int]:
        """Make one picture; return the count of pictures, and the size of the batch."""
        self._seed += 1
        output = pb.OutputConfig(format=pb.IMAGE_FORMAT_PIXELS)
        asked = pb.GenerateRequest(latents=[pb.Latent(seed=self._seed)], output_config=output)
        reply = await self._stub.Generate(asked)
        to_array(reply.images[0].tensor)
        return 1, reply.batch.size

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()


class Direct:
    """Calls the mapping, then the synthesis, with batches of a given size.

    Args:
        address: of Triton.
        manifest: of the model.
        batch_size: rows in a call.
    """

    def __init__(self, address: str, manifest: Manifest, batch_size: int) -> None:
        self._client, self._manifest, self.batch_size = InferenceServerClient(address), manifest, batch_size
        self._random = np.random.default_rng(1)

    async def run(self) -> tuple[int, int]:
        """Make a batch of pictures; return their count twice."""
        size, model = self.batch_size, self._manifest
        z = self._random.standard_normal((size, model.z_dim), np.float32)
        w = await self._infer("mapping", {"z": z}, "w")
        inputs = {
            "w_plus": np.repeat(w[:, None], model.layer_count, axis=1),  # [N, L, D]
            "noise_strength": np.ones((size, 1), np.float32),
            "noise": np.zeros((size, 1), np.float32),
        }
        await self._infer("synthesis", inputs, "pixels")
        return size, size

    async def close(self) -> None:
        """End the connection."""
        await self._client.close()

    async def _infer(self, graph: str, inputs: dict[str, Any], output: str) -> Any:
        tensors = [InferInput(name, list(a.shape), "FP32").set_data_from_numpy(a) for name, a in inputs.items()]
        name = f"{self._manifest.name}.{graph}"
        result = await self._client.infer(name, tensors, outputs=[InferRequestedOutput(output)])
        return result.as_numpy(output)


async def take_turn(run: Callable[[], Awaitable[tuple[int, int]]], callers: int, seconds: float) -> Turn:
    """Let some callers call again and again for some seconds; each call that has begun is finished."""
    turn, image_count, started = Turn(), 0, time.perf_counter()

    async def call() -> None:
        nonlocal image_count
        while (now := time.perf_counter()) - started < seconds:
            count, batch_size = await run()
            turn.latencies.append(time.perf_counter() - now)
            turn.batch_sizes.append(batch_size)
            image_count += count

    await asyncio.gather(*(call() for _ in range(callers)))
    turn.images_per_second = image_count / (time.perf_counter() - started)
    return turn
