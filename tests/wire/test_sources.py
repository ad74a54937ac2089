"""Every kind of latent in every RPC: the source decides the code, whatever the call does with it."""

import numpy as np
import pytest

from stylewire import latents, pb
from stylewire.tensors import to_array, to_tensor
from support.pictures import avatar

SEED = 11
KINDS = [field.name for field in pb.Latent.DESCRIPTOR.oneofs_by_name["source"].fields]


@pytest.fixture(scope="module")
def sources(demo_server):
    """Kind -> a latent of the demo model and the code it must give."""
    with demo_server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        seeded = pb.GenerateRequest(latents=[pb.Latent(seed=SEED)], return_codes=True)
        code = to_array(stub.Generate(seeded).codes[0])
        photo = pb.ImageSource(content=avatar(3))
        inverted = to_array(stub.Invert(pb.InvertRequest(image=photo)).code)
    stairs = code * np.linspace(0, 1, len(code), dtype=np.float32)[:, np.newaxis]
    return {
        "seed": (pb.Latent(seed=SEED), code),
        "z": (pb.Latent(z=to_tensor(latents.sample_z(SEED, 128))), code),
        "w": (pb.Latent(w=to_tensor(code[0])), code),
        "w_plus": (pb.Latent(w_plus=to_tensor(stairs)), stairs),
        "image": (pb.Latent(image=photo), inverted),
    }


def in_generate(stub, latent):
    """The code of the middle one of three."""
    other = pb.Latent(seed=99)
    return stub.Generate(pb.GenerateRequest(latents=[other, latent, other], return_codes=True)).codes[1]


def in_mix_content(stub, latent):
    """The code of a mixture in which the style has no weight."""
    styles = [pb.StyleSource(latent=pb.Latent(seed=99), weight=0)]
    return stub.MixStyles(pb.MixStylesRequest(content=latent, styles=styles, return_code=True)).code


def in_mix_style(stub, latent):
    """The code of a mixture that is all style."""
    request = pb.MixStylesRequest(content=pb.Latent(seed=99), styles=[pb.StyleSource(latent=latent)], return_code=True)
    return stub.MixStyles(request).code


def in_interpolate(stub, latent):
    """The code of the last frame, which is the last keyframe."""
    keyframes = [pb.Latent(seed=99), latent]
    *_, last = stub.Interpolate(pb.InterpolateRequest(keyframes=keyframes, frame_count=3, return_codes=True))
    return last.code


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [in_generate, in_mix_content, in_mix_style, in_interpolate])
def test_source_gives_its_code_everywhere(demo, sources, place, kind):
    """A seed, z, w, w+ or picture gives the same code in every place that takes a latent."""
    latent, expected = sources[kind]

    assert np.allclose(expected, to_array(place(demo, latent)), atol=1e-4)


def test_sources_of_all_kinds_go_together(demo, sources):
    """One request may mix all kinds; each keeps its place."""
    request = pb.GenerateRequest(latents=[latent for latent, _ in sources.values()], return_codes=True)
    codes = demo.Generate(request).codes

    for (_, expected), code in zip(sources.values(), codes, strict=True):
        assert np.allclose(expected, to_array(code), atol=1e-4)


@pytest.mark.parametrize("kind", ["z", "w", "w_plus", "image"])
def test_truncation_applies_to_every_source(demo, sources, kind):
    """Psi halves the way from the mean, whatever the source."""
    latent, expected = sources[kind]
    mean_source = pb.Latent(seed=1, truncation=pb.Truncation(psi=0))
    truncated = pb.Latent(truncation=pb.Truncation(psi=0.5))
    truncated.MergeFrom(latent)
    request = pb.GenerateRequest(latents=[mean_source, truncated], return_codes=True)
    mean, code = (to_array(tensor) for tensor in demo.Generate(request).codes)

    assert np.allclose((mean + expected) / 2, code, atol=1e-4)
