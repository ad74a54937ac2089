"""MixStyles over a real connection."""

import numpy as np
import pytest

from stylewire import latents, pb
from stylewire.tensors import to_array
from support.pictures import worst_difference


def code_of(stub, latent, **request) -> np.ndarray:
    reply = stub.Generate(pb.GenerateRequest(latents=[latent], return_codes=True, **request))
    return to_array(reply.codes[0])


def mix(stub, content, *styles, **request) -> pb.MixStylesResponse:
    return stub.MixStyles(pb.MixStylesRequest(content=content, styles=styles, return_code=True, **request))


def style(seed, start=0, end=None, weight=None) -> pb.StyleSource:
    layer_range = pb.LayerRange(start_layer=start, end_layer=end)
    return pb.StyleSource(latent=pb.Latent(seed=seed), layer_range=layer_range, weight=weight)


def test_mix_replaces_the_layers_of_the_range(small):
    """Rows inside the range are the style's, all others the content's."""
    code = to_array(mix(small, pb.Latent(seed=1), style(2, 3, 6)).code)
    content, lent = code_of(small, pb.Latent(seed=1)), code_of(small, pb.Latent(seed=2))

    assert np.allclose(lent[3:6], code[3:6], atol=1e-6)
    assert np.allclose(content[[0, 1, 2, 6, 7]], code[[0, 1, 2, 6, 7]], atol=1e-6)


def test_mix_without_range_replaces_everything(small):
    """A style without a range lends all its layers, one without an end all that follow."""
    whole = mix(small, pb.Latent(seed=1), pb.StyleSource(latent=pb.Latent(seed=2)))
    rest = to_array(mix(small, pb.Latent(seed=1), style(2, 5)).code)

    assert np.allclose(code_of(small, pb.Latent(seed=2)), to_array(whole.code), atol=1e-6)
    assert np.allclose(code_of(small, pb.Latent(seed=2))[5:], rest[5:], atol=1e-6)
    assert np.allclose(code_of(small, pb.Latent(seed=1))[:5], rest[:5], atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 1.0])
def test_mix_weight_blends_linearly(small, weight):
    """A weight is the share of the style in w+: 0 leaves the content, 1 replaces it."""
    code = to_array(mix(small, pb.Latent(seed=1), style(2, 2, 7, weight)).code)
    content, lent = code_of(small, pb.Latent(seed=1)), code_of(small, pb.Latent(seed=2))
    expected = content.copy()
    expected[2:7] = (1 - weight) * content[2:7] + weight * lent[2:7]

    assert np.allclose(expected, code, atol=1e-5)


def test_mix_later_style_wins(small):
    """Styles are applied in their order: where ranges overlap the later one shows."""
    forth = to_array(mix(small, pb.Latent(seed=1), style(2, 0, 5), style(3, 4, 8)).code)
    back = to_array(mix(small, pb.Latent(seed=1), style(3, 4, 8), style(2, 0, 5)).code)

    assert np.allclose(code_of(small, pb.Latent(seed=3))[4], forth[4], atol=1e-6)
    assert np.allclose(code_of(small, pb.Latent(seed=2))[4], back[4], atol=1e-6)


def test_mix_equals_numpy_on_codes(small):
    """Three weighted, overlapping styles with truncation equal the same steps on codes, and the picture is theirs."""
    truncated = pb.Latent(seed=4, truncation=pb.Truncation(psi=0.5))
    lent = pb.StyleSource(latent=truncated, layer_range=pb.LayerRange(start_layer=2), weight=0.5)
    reply = mix(small, pb.Latent(seed=1), style(2, 0, 4, 0.7), lent, style(3, 3, 5, 0.2))
    expected = code_of(small, pb.Latent(seed=1))
    expected = latents.mix(expected, code_of(small, pb.Latent(seed=2)), slice(0, 4), 0.7)
    expected = latents.mix(expected, code_of(small, truncated), slice(2, 8), 0.5)
    expected = latents.mix(expected, code_of(small, pb.Latent(seed=3)), slice(3, 5), 0.2)
    direct = small.Generate(pb.GenerateRequest(latents=[pb.Latent(w_plus=reply.code)])).images
    print(f"largest difference of the codes {np.abs(expected - to_array(reply.code)).max():.2g}")

    assert np.allclose(expected, to_array(reply.code), atol=1e-5)
    assert 1 >= worst_difference(direct, [reply.image])


def test_mix_crosses_models_of_one_space(small):
    """A style may come from another model of the same latent space."""
    lent = pb.StyleSource(latent=pb.Latent(seed=2, model="twin"), layer_range=pb.LayerRange(start_layer=4))
    code = to_array(mix(small, pb.Latent(seed=1), lent).code)

    assert np.allclose(code_of(small, pb.Latent(seed=2), model="twin")[4:], code[4:], atol=1e-6)


def test_mix_returns_no_code_unless_asked(small):
    """The code stays on the server by default."""
    reply = small.MixStyles(pb.MixStylesRequest(content=pb.Latent(seed=1), styles=[style(2)]))

    assert not reply.HasField("code")
    assert reply.image.content
