"""The calls of a load: requests of one workload, over several connections, and their results."""

import itertools
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, TypeAlias, cast

import grpc
import grpc.aio

from stylewire import pb
from stylewire.client.connection import channel_options, typed_errors
from stylewire.client.options import Format
from stylewire.client.requests import generate_request, invert_request, mix_request, to_styles
from stylewire.client.results import Timing, read_timing
from stylewire.loadtest.results import CallResult
from stylewire.security import Security, open_async_channel
from stylewire.status import from_rpc_error

Rpc: TypeAlias = Literal["generate", "invert", "mix"]
_Request: TypeAlias = pb.GenerateRequest | pb.InvertRequest | pb.MixStylesRequest
_Response: TypeAlias = pb.GenerateResponse | pb.InvertResponse | pb.MixStylesResponse
_METHODS: dict[Rpc, tuple[str, type[_Response]]] = {
    "generate": ("Generate", pb.GenerateResponse),
    "invert": ("Invert", pb.InvertResponse),
    "mix": ("MixStyles", pb.MixStylesResponse),
}
_SEEDS = 2**32
_PICTURE_PSI = 0.7
_OWN_CONNECTIONS = (
    ("grpc.enable_retries", 0),  # a refusal that gRPC retries unseen would look like a long wait
    ("grpc.use_local_subchannel_pool", 1),  # channels of one address share a connection otherwise
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The calls of a load: which RPC, of what.

    Attributes:
        rpc: which call.
        model: its name; the server's default model when empty.
        image_format: of the pictures.
        latents: of one call of Generate.
        psi: truncation.
        timeout: seconds that a call may take.
    """

    rpc: Rpc = "generate"
    model: str = ""
    image_format: Format = "png"
    latents: int = 1
    psi: float | None = None
    timeout: float = 60.0

    @property
    def images(self) -> int:
        """Pictures that a call returns; a code counts as one."""
        return self.latents if self.rpc == "generate" else 1


class Calls:
    """Makes the calls of a load. Make it inside a running event loop.

    Args:
        address: ``host:port`` or any gRPC target.
        workload: which calls.
        connections: used in turn; one HTTP/2 connection has limits of its own.
        picture: a file to invert; without one, the model itself makes it.
        security: TLS and token; None means neither.
    """

    def __init__(
        self,
        address: str,
        workload: Workload,
        *,
        connections: int,
        picture: bytes = b"",
        security: Security | None = None,
    ) -> None:
        self._address, self._workload, self._picture = address, workload, picture
        options = [*channel_options(address), *_OWN_CONNECTIONS]
        self._channels = [open_async_channel(address, options, security) for _ in range(connections)]
        method, response = _METHODS[workload.rpc]
        self._senders = itertools.cycle(
            [
                channel.unary_unary(
                    f"/{pb.STYLEGAN_SERVICE}/{method}",
                    request_serializer=_serialize,
                    response_deserializer=response.FromString,
                )
                for channel in self._channels
            ]
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels:
            await channel.close()

    async def prepare(self) -> pb.Model:
        """Return the measured model, after one call, so that a wrong option is one error and not a table of them.

        Raises:
            StylewireError: the call cannot succeed, or no server answers.
        """
        workload, channel = self._workload, self._channels[0]
        with typed_errors(self._address):
            request = pb.GetModelRequest(name=workload.model)
            described = await pb.ModelServiceStub(channel).GetModel(request, timeout=workload.timeout)
            if workload.rpc == "invert" and not self._picture:
                latent = generate_request(0, model=workload.model, psi=_PICTURE_PSI)
                made = await pb.StyleGanServiceStub(channel).Generate(latent, timeout=workload.timeout)
                self._picture = made.images[0].content
            await next(self._senders)(self._request(0), timeout=workload.timeout)
        return described.model

    async def __call__(self, number: int) -> CallResult:
        """Make one call; each number has seeds of its own."""
        request, send = self._request(number), next(self._senders)
        try:
            response = cast("_Response", await send(request, timeout=self._workload.timeout))
        except grpc.aio.AioRpcError as error:
            typed = from_rpc_error(error)
            return CallResult(
                code=error.code().name, problem=typed.message, retry_after_seconds=typed.retry_after_seconds
            )
        spent: Timing = read_timing(response.timing)
        return CallResult(
            images=self._workload.images,
            batch_size=response.batch.size,
            queue_seconds=spent.queue_seconds,
            inference_seconds=spent.inference_seconds,
            encoding_seconds=spent.encoding_seconds,
        )

    def _request(self, number: int) -> _Request:
        workload = self._workload
        match workload.rpc:
            case "generate":
                seeds = [(number * workload.latents + index) % _SEEDS for index in range(workload.latents)]
                return generate_request(seeds, model=workload.model, psi=workload.psi, format=workload.image_format)
            case "invert":
                return invert_request(self._picture, model=workload.model)
            case "mix":
                styles = to_styles((number + 1) % _SEEDS, workload.psi)
                return mix_request(
                    number % _SEEDS, styles, None, model=workload.model, psi=workload.psi, format=workload.image_format
                )


def _serialize(request: _Request) -> bytes:
    return request.SerializeToString()
