"""A base and its blend behind one server: codes of one, drawn by the other, through every call."""

import grpc
import numpy as np
import pytest

from stylewire import pb
from stylewire.tensors import to_array
from stylewire_export.blend import BlendRule
from stylewire_export.bundle import Blending, ExportJob, export_model
from support.pictures import worst_difference
from support.servers import running_server

TENSOR = pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR)
LIMIT = 1e-5  # of the largest magnitude


@pytest.fixture(scope="module")
def stub(golden, tmp_path_factory):
    """A server of ``base``, its ``blend`` (one latent space), and ``stranger``."""
    out = tmp_path_factory.mktemp("models")
    files = [golden / "blend64" / "network.pkl", golden / "blend64" / "network_b.pkl"]
    blending = Blending(finetuned=files[1], rule=BlendRule(resolution_px=16))
    export_model(ExportJob(generator=files[0], name="base", out=out, formats=("onnx",)))
    export_model(ExportJob(generator=files[0], blending=blending, name="blend", out=out, formats=("onnx",)))
    export_model(ExportJob(generator=golden / "ada64" / "network.pkl", name="stranger", out=out, formats=("onnx",)))
    with running_server(models=out, default_model="base") as server, server.channel() as channel:
        yield pb.StyleGanServiceStub(channel)


def test_blend_draws_the_original_image_of_a_bases_seed(stub, golden):
    """Seed 0 mapped by the base and drawn by the blend is the original's blended picture."""
    with np.load(golden / "blend64" / "io.npz") as file:
        expected = file["img_ab_16_level0"]
    latent = pb.Latent(seed=0, model="base")

    reply = stub.Generate(pb.GenerateRequest(model="blend", latents=[latent], output_config=TENSOR))

    error = np.abs(to_array(reply.images[0].tensor)[None] - expected).max() / np.abs(expected).max()
    print(f"blend64 server ab_16_level0: {error:.1e}")

    assert error <= LIMIT


def test_mix_and_interpolate_take_codes_of_the_base(stub):
    """MixStyles and Interpolate of the blend give the same for latents of the base as for its own."""
    own, lent = ([pb.Latent(seed=seed, model=name) for seed in (1, 2)] for name in ("blend", "base"))

    def mixed(content, style):
        request = pb.MixStylesRequest(model="blend", content=content, styles=[pb.StyleSource(latent=style)])
        return stub.MixStyles(request).image

    def frames(keyframes):
        request = pb.InterpolateRequest(model="blend", keyframes=keyframes, frame_count=3)
        return [reply.image for reply in stub.Interpolate(request)]

    assert worst_difference([mixed(*own)], [mixed(*lent)]) <= 1
    assert worst_difference(frames(own), frames(lent)) <= 1


@pytest.mark.parametrize("call", ["Generate", "MixStyles", "Interpolate"])
def test_codes_of_a_stranger_are_refused(stub, call):
    """A latent of another latent space is a failed precondition in every call."""
    latent = pb.Latent(seed=1, model="stranger")
    asked = {
        "Generate": lambda: stub.Generate(pb.GenerateRequest(model="blend", latents=[latent])),
        "MixStyles": lambda: stub.MixStyles(
            pb.MixStylesRequest(model="blend", content=pb.Latent(seed=1), styles=[pb.StyleSource(latent=latent)])
        ),
        "Interpolate": lambda: list(
            stub.Interpolate(pb.InterpolateRequest(model="blend", keyframes=[latent, latent], frame_count=2))
        ),
    }

    with pytest.raises(grpc.RpcError) as caught:
        asked[call]()

    assert grpc.StatusCode.FAILED_PRECONDITION == caught.value.code()
