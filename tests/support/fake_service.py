"""A server without networks for tests of the client: records requests, answers with small pictures, fails on demand."""
# ruff: noqa: N802 - the names of the RPCs

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import PIL.Image
from grpc_status import rpc_status

from stylewire import pb
from stylewire.errors import StylewireError, to_status
from stylewire.latents import layer_resolutions, role_of
from stylewire.tensors import to_tensor

SIZE_PX = 8
DIGEST = "sha256:00"
LAYERS = [pb.Model.Layer(resolution_px=px, role=role_of(px)) for px in layer_resolutions(64)]


RUNTIMES = [
    pb.Model.Runtime(graph="synthesis", backend="openvino", problem="openvino is not here"),
    pb.Model.Runtime(graph="synthesis", backend="ncnn", precision="fp32", chosen=True, rows_per_second=12.34),
]


def model(name, **fields):
    return pb.Model(
        name=name,
        state=pb.Model.STATE_READY,
        layers=LAYERS,
        layer_count=10,
        resolution_px=64,
        runtimes=RUNTIMES,
        **fields,
    )


class FakeServer(pb.StyleGanServiceServicer, pb.ModelServiceServicer):
    """Answers latent k of seed s with a square of the gray level s and a code filled with s.

    Attributes:
        requests: what arrived, in order.
        failures: raised by the next calls, one each, instead of an answer.
        gate: calls wait until it is set.
        arrived: set when a call has arrived.
        cancelled: set when a caller leaves a stream.
        size_px: width and height of the pictures.
        digest: of the model that GetModel describes.
    """

    def __init__(self):
        self.address = ""
        self.requests = []
        self.failures: list[StylewireError] = []
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Event()
        self.cancelled = threading.Event()
        self.size_px = SIZE_PX
        self.digest = DIGEST

    def Generate(self, request, context):
        self._admit(request, context)
        images = [self._image(latent.seed, request.output_config.format) for latent in request.latents]
        codes = [_code(latent.seed) for latent in request.latents] if request.return_codes else []
        return pb.GenerateResponse(images=images, codes=codes, **_facts())

    def Invert(self, request, context):
        self._admit(request, context)
        response = pb.InvertResponse(code=_code(3), **_facts())
        response.aligned.CopyFrom(self._image(3, pb.IMAGE_FORMAT_PNG))
        if request.image.alignment and not request.image.HasField("landmarks"):
            response.face.CopyFrom(pb.Face(count=2, box=pb.Box(right_px=4, bottom_px=4)))
        if request.return_reconstruction:
            response.reconstruction.CopyFrom(self._image(4, pb.IMAGE_FORMAT_PNG))
            response.distortion = 0.25
        return response

    def MixStyles(self, request, context):
        self._admit(request, context)
        seed = request.content.seed + sum(style.latent.seed for style in request.styles)
        response = pb.MixStylesResponse(image=self._image(seed, request.output_config.format), **_facts())
        if request.return_code:
            response.code.CopyFrom(_code(seed))
        return response

    def Interpolate(self, request, context):
        self._admit(request, context)
        context.add_callback(self.cancelled.set)
        for index in range(request.frame_count):
            code = _code(index) if request.return_codes else None
            image = self._image(index, request.output_config.format)
            yield pb.InterpolateResponse(frame_index=index, image=image, code=code, **_facts())

    def ListModels(self, request, context):
        self._admit(request, context)
        if not request.page_token:
            return pb.ListModelsResponse(models=[model("a", default_model=True)], next_page_token="b")
        return pb.ListModelsResponse(models=[model("b", capabilities=[pb.CAPABILITY_SYNTHESIZE])])

    def GetModel(self, request, context):
        self._admit(request, context)
        return pb.GetModelResponse(model=model(request.name or "a", digest=self.digest))

    def _admit(self, request, context):
        self.requests.append(request)
        self.arrived.set()
        self.gate.wait()
        if self.failures:
            context.abort_with_status(rpc_status.to_status(to_status(self.failures.pop(0))))

    def _image(self, seed, image_format):
        pixels = np.full((self.size_px, self.size_px, 3), seed, np.uint8)  # [H, W, C]
        size = {"width_px": self.size_px, "height_px": self.size_px}
        if image_format == pb.IMAGE_FORMAT_PIXELS:
            return pb.Image(tensor=to_tensor(pixels), **size)
        if image_format == pb.IMAGE_FORMAT_TENSOR:
            return pb.Image(tensor=to_tensor(np.zeros((3, self.size_px, self.size_px), np.float32)), **size)
        name = pb.ImageFormat.Name(image_format).removeprefix("IMAGE_FORMAT_").lower()
        file = io.BytesIO()
        PIL.Image.fromarray(pixels).save(file, format=name)
        return pb.Image(content=file.getvalue(), mime_type=f"image/{name}", **size)


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    fake = FakeServer()
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with ThreadPoolExecutor(20) as pool:
        server = grpc.server(pool, options=options)
        pb.add_StyleGanServiceServicer_to_server(fake, server)
        pb.add_ModelServiceServicer_to_server(fake, server)
        fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield fake
        finally:
            fake.gate.set()
            server.stop(grace=None).wait()


def _code(seed):
    return to_tensor(np.full((10, 4), seed, np.float32))  # [L, D]


def _facts():
    timing = pb.Timing(
        queue=pb.Duration(nanos=1_000_000),
        inference=pb.Duration(nanos=2_000_000),
        encoding=pb.Duration(nanos=3_000_000),
    )
    return {"timing": timing, "batch": pb.BatchInfo(size=5), "model_digest": DIGEST}
