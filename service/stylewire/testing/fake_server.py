"""A server without networks, for tests of programs that use the SDK: the base install is all it needs.

>>> from stylewire import Client, OverloadedError
>>> with FakeServer() as server, Client(server.address) as client:
...     picture = client.generate(200, format="pixels")[0]
...     server.fail_next(OverloadedError("full"))
...     try:
...         client.generate(7)
...     except OverloadedError as error:
...         print(picture.array[0, 0], error, len(server.requests))
[200 200 200] full 2
"""
# ruff: noqa: N802 - the names of the RPCs

import io
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NoReturn, Self, TypeAlias, TypedDict

import grpc
import numpy as np
from google.protobuf.message import Message
from grpc_status import rpc_status

from stylewire import pb
from stylewire.errors import StylewireError
from stylewire.latents import layer_resolutions, role_of
from stylewire.status import pushback, to_status
from stylewire.tensors import to_tensor

DIGEST = "sha256:00"
W_DIM = 4
_RESOLUTION_PX = 64
_CALLS_AT_ONCE = 20
_UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
_FILES = {pb.IMAGE_FORMAT_JPEG: "jpeg", pb.IMAGE_FORMAT_WEBP: "webp"}
_Context: TypeAlias = grpc.ServicerContext


class _Facts(TypedDict):
    timing: pb.Timing
    batch: pb.BatchInfo
    model_digest: str


def model(name: str, **fields: Any) -> pb.Model:
    """Describe a model of 64 px that is ready.

    Args:
        name: its name.
        **fields: any other fields of ``pb.Model``.
    """
    resolutions = layer_resolutions(_RESOLUTION_PX)
    described = {
        "state": pb.Model.STATE_READY,
        "capabilities": [pb.CAPABILITY_GENERATE, pb.CAPABILITY_SYNTHESIZE, pb.CAPABILITY_INVERT],
        "resolution_px": _RESOLUTION_PX,
        "layer_count": len(resolutions),
        "w_dim": W_DIM,
        "layers": [pb.Model.Layer(resolution_px=px, role=role_of(px)) for px in resolutions],
        "digest": DIGEST,
    }
    return pb.Model(name=name, **{**described, **fields})


class FakeServer(pb.StyleGanServiceServicer, pb.ModelServiceServicer):
    """Answers every request that can be read, over gRPC on 127.0.0.1 and a free port, with small gray pictures.

    The picture of a seed is a square of the gray level seed modulo 256, its code is filled with that number; other
    latents have a level that depends on all their bytes. The same latent has the same picture, always. Every name of a
    model is known. Values are not checked: that is the real server's.

    Args:
        models: what is listed, one a page; the first is the default.
        size_px: width and height of the pictures.

    Attributes:
        address: ``host:port``, once it has started.
        requests: the messages that arrived, in order.
        failures: what the next calls get instead of an answer, one each; see ``fail_next``.
        gate: calls wait until it is set; ``server.gate.clear()`` makes a server that does not answer.
        arrived: set when a call has arrived.
        ended: set when a call has ended, by an answer or by its caller.
        size_px: width and height of the pictures.
        digest: of the model that ``GetModel`` describes.
    """

    def __init__(self, *, models: Sequence[pb.Model] = (), size_px: int = 8) -> None:
        self.address = ""
        self.requests: list[Message] = []
        self.failures: list[StylewireError] = []
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Event()
        self.ended = threading.Event()
        self.size_px = size_px
        self.digest = DIGEST
        self._listed = list(models) or [model("fake", default_model=True)]
        self._server: grpc.Server | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; after a ``stop`` at the same address, as a server that was restarted."""
        self._pool = ThreadPoolExecutor(_CALLS_AT_ONCE, "fake stylewire")
        self._server = grpc.server(self._pool, options=_UNLIMITED)
        pb.add_StyleGanServiceServicer_to_server(self, self._server)
        pb.add_ModelServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        """End at once: calls in flight are lost, as with a server that is killed."""
        if self._server is None or self._pool is None:
            return
        was_set = self.gate.is_set()
        stopping = self._server.stop(grace=None)
        self.gate.set()  # calls that wait end
        stopping.wait()
        self._pool.shutdown()
        self._server = self._pool = None
        if not was_set:
            self.gate.clear()

    def fail_next(self, *errors: StylewireError) -> None:
        """Let the next calls fail, one with each error. gRPC's own retries are calls, too: see ``docs/client.md``."""
        with self._lock:
            self.failures += errors

    def Generate(self, request: pb.GenerateRequest, context: _Context) -> pb.GenerateResponse:
        """Make a gray square of each latent."""
        self._admit(request, context)
        return pb.GenerateResponse(
            images=[self._image(_level(latent), request.output_config.format) for latent in request.latents],
            codes=[_code(latent) for latent in request.latents] if request.return_codes else [],
            **_facts(len(request.latents)),
        )

    def Invert(self, request: pb.InvertRequest, context: _Context) -> pb.InvertResponse:
        """Find a code that depends on the picture's bytes."""
        self._admit(request, context)
        latent = pb.Latent(image=request.image)
        image = self._image(_level(latent), request.output_config.format)
        aligned = request.image.alignment not in (pb.ALIGNMENT_UNSPECIFIED, pb.ALIGNMENT_NONE)
        searched = aligned and not request.image.HasField("landmarks")
        return pb.InvertResponse(
            code=_code(latent),
            aligned=image,
            reconstruction=image if request.return_reconstruction else None,
            distortion=0.25 if request.return_reconstruction else None,
            face=pb.Face(count=2, box=pb.Box(right_px=4, bottom_px=4)) if searched else None,
            **_facts(1),
        )

    def MixStyles(self, request: pb.MixStylesRequest, context: _Context) -> pb.MixStylesResponse:
        """Make the square of the sum of all levels."""
        self._admit(request, context)
        total = sum(_level(latent) for latent in (request.content, *(style.latent for style in request.styles))) % 256
        image, code = self._image(total, request.output_config.format), _code(pb.Latent(seed=total))
        return pb.MixStylesResponse(image=image, code=code if request.return_code else None, **_facts(1))

    def Interpolate(self, request: pb.InterpolateRequest, context: _Context) -> Iterator[pb.InterpolateResponse]:
        """Make frames of rising levels."""
        self._admit(request, context)
        for index in range(request.frame_count):
            code = _code(pb.Latent(seed=index)) if request.return_codes else None
            image = self._image(index % 256, request.output_config.format)
            yield pb.InterpolateResponse(frame_index=index, image=image, code=code, **_facts(1))

    def ListModels(self, request: pb.ListModelsRequest, context: _Context) -> pb.ListModelsResponse:
        """List one model a page."""
        self._admit(request, context)
        page = int(request.page_token or 0)
        more = f"{page + 1}" if page + 1 < len(self._listed) else ""
        return pb.ListModelsResponse(models=self._listed[page : page + 1], next_page_token=more)

    def GetModel(self, request: pb.GetModelRequest, context: _Context) -> pb.GetModelResponse:
        """Describe a model of any name."""
        self._admit(request, context)
        name = request.name or self._listed[0].name
        found = pb.GetModelResponse(model=next((each for each in self._listed if each.name == name), model(name)))
        found.model.digest = self.digest
        return found

    def _admit(self, request: Message, context: _Context) -> None:
        with self._lock:
            self.requests.append(request)
        context.add_callback(self.ended.set)
        self.arrived.set()
        self.gate.wait()
        with self._lock:
            failure = self.failures.pop(0) if self.failures else None
        if failure:
            _abort(failure, context)

    def _image(self, level: int, image_format: "pb.ImageFormat.ValueType") -> pb.Image:
        import PIL.Image  # noqa: PLC0415 - starts slowly, and arrays do not need it

        pixels = np.full((self.size_px, self.size_px, 3), level, np.uint8)  # [H, W, C]
        image = pb.Image(width_px=self.size_px, height_px=self.size_px)
        if image_format == pb.IMAGE_FORMAT_PIXELS:
            image.tensor.CopyFrom(to_tensor(pixels))
        elif image_format == pb.IMAGE_FORMAT_TENSOR:
            floats = (pixels.transpose(2, 0, 1) / 127.5 - 1).astype(np.float32)  # [C, H, W]
            image.tensor.CopyFrom(to_tensor(floats))
        else:
            name = _FILES.get(image_format, "png")
            file = io.BytesIO()
            PIL.Image.fromarray(pixels).save(file, format=name)
            image.content, image.mime_type = file.getvalue(), f"image/{name}"
        return image


def _abort(error: StylewireError, context: _Context) -> NoReturn:
    status = rpc_status.to_status(to_status(error))
    context.set_trailing_metadata((*status.trailing_metadata, *pushback(error)))
    context.abort(status.code, status.details)


def _level(latent: pb.Latent) -> int:
    if latent.HasField("seed"):
        return latent.seed % 256
    return zlib.crc32(latent.SerializeToString(deterministic=True)) % 256


def _code(latent: pb.Latent) -> pb.Tensor:
    if latent.HasField("w_plus"):
        return latent.w_plus
    layer_count = len(layer_resolutions(_RESOLUTION_PX))
    return to_tensor(np.full((layer_count, W_DIM), _level(latent), np.float32))  # [L, D]


def _facts(batch_size: int) -> _Facts:
    timing = pb.Timing(
        queue=pb.Duration(nanos=1_000_000),
        inference=pb.Duration(nanos=2_000_000),
        encoding=pb.Duration(nanos=3_000_000),
    )
    return {"timing": timing, "batch": pb.BatchInfo(size=batch_size), "model_digest": DIGEST}
