"""Requests made to hurt: every field wrong in turn, several at once, and bytes that are no request."""

import grpc
import numpy as np
import pytest

from stylewire import InvalidFieldError, pb
from stylewire.status import from_rpc_error
from stylewire.tensors import to_tensor
from support.pictures import avatar, worst_difference
from support.refusals import failure, refusal
from support.servers import running_server
from support.wrong_requests import CASES, REQUESTS, field_paths, good, request_type, tried_paths

NEIGHBOR = pb.GenerateRequest(latents=[pb.Latent(seed=seed) for seed in range(3)])
ANY_STRING = {"ListModels": {"page_token"}}
"""Fields of which no value is wrong: a page token is a name to go on behind."""


class Stubs:
    """All methods of a server."""

    def __init__(self, channel):
        self.of = {
            **vars(pb.StyleGanServiceStub(channel)),
            **vars(pb.ModelServiceStub(channel)),
        }
        self.neighbor = self.of["Generate"](NEIGHBOR).images

    def check_neighbor(self, images):
        assert 1 >= worst_difference(self.neighbor, images)


@pytest.fixture(scope="module")
def demo_stubs(demo_server):
    with demo_server.channel() as channel:
        yield Stubs(channel)


@pytest.fixture(scope="module")
def small_stubs(small_server):
    with small_server.channel() as channel:
        yield Stubs(channel)


@pytest.mark.parametrize("method", [*REQUESTS, "ListModels", "GetModel"])
def test_every_field_of_every_request_has_a_case(method):
    """A field without a wrong value in this table fails here, so that new fields get one."""
    fields = field_paths(request_type(method).DESCRIPTOR) - ANY_STRING.get(method, set())

    assert set() == fields - tried_paths(method)


@pytest.mark.parametrize("name", CASES)
def test_wrong_request_is_refused_and_hurts_nobody(request, name):
    """The error names exactly the wrong fields; a call at the same time and one afterwards get their pictures."""
    case = CASES[name]
    stubs = request.getfixturevalue("small_stubs" if case.wrong.model else "demo_stubs")
    neighbor = stubs.of["Generate"].future(NEIGHBOR)
    error = refusal(stubs.of[case.method], case.request)

    assert case.wrong.reason == error.reason
    assert sorted(case.wrong.fields) == sorted(violation.field for violation in error.violations)
    assert all(violation.description for violation in error.violations)
    stubs.check_neighbor(neighbor.result().images)
    stubs.check_neighbor(stubs.of["Generate"](NEIGHBOR).images)


def test_all_wrong_fields_are_named_at_once(demo_stubs):
    """Wrong fields of all kinds in one request are all named."""
    nan = to_tensor(np.full(128, np.nan, np.float32))
    request = pb.MixStylesRequest(
        content=pb.Latent(z=nan, truncation=pb.Truncation(psi=3, layer_range=pb.LayerRange(start_layer=-1))),
        styles=[
            pb.StyleSource(latent=pb.Latent(), weight=2),
            pb.StyleSource(latent=pb.Latent(seed=-1), layer_range=pb.LayerRange(start_layer=3, end_layer=2)),
            pb.StyleSource(latent=pb.Latent(image=pb.ImageSource(content=b"x", alignment=5), class_index=1)),
        ],
        noise=pb.Noise(mode=pb.Noise.MODE_NONE, seed=-1, strength=11),
        output_config=pb.OutputConfig(format=9, quality=0, resolution_px=0),
    )
    error = refusal(demo_stubs.of["MixStyles"], request)

    assert InvalidFieldError is type(error)
    assert {
        "content.z",
        "content.truncation.psi",
        "content.truncation.layer_range.start_layer",
        "styles[0].latent.source",
        "styles[0].weight",
        "styles[1].latent.seed",
        "styles[1].layer_range.end_layer",
        "styles[2].latent.image.content",
        "styles[2].latent.image.alignment",
        "styles[2].latent.class_index",
        "noise.seed",
        "noise.strength",
        "output_config.format",
        "output_config.quality",
        "output_config.resolution_px",
    } == {violation.field for violation in error.violations}


def test_hundreds_of_violations_fit_into_the_trailers(demo_stubs):
    """When not all violations fit into what clients accept, the last one says how many are left out."""
    bad = pb.Latent(seed=-1, truncation=pb.Truncation(psi=9, layer_range=pb.LayerRange(start_layer=-5)))
    error = refusal(demo_stubs.of["Generate"], pb.GenerateRequest(latents=[bad] * 64))
    *named, rest = error.violations

    assert [f"latents[{k // 3}]" for k in range(len(named))] == [v.field.split(".")[0] for v in named]
    assert f"and {64 * 3 - len(named)} more wrong fields" == rest.description


def test_long_names_come_back_short(demo_stubs):
    """A megabyte of name does not come back as a megabyte of error."""
    for request in (
        pb.GenerateRequest(model="x" * 2**20, latents=[good("")]),
        pb.GenerateRequest(latents=[pb.Latent(seed=1, model="\N{SNOWMAN}" * 2**18)]),
        pb.GenerateRequest(latents=[pb.Latent(image=pb.ImageSource(content=avatar(), encoder="e" * 2**20))]),
    ):
        error = refusal(demo_stubs.of["Generate"], request)

        assert "MODEL_NOT_FOUND" == error.reason
        assert len(error.message) <= 1000


@pytest.mark.parametrize("content", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x12\x02\x08", b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("method", [*REQUESTS, "ListModels", "GetModel"])
def test_bytes_that_are_no_request_are_refused(demo_server, demo_stubs, method, content):
    """Bytes that protobuf cannot read are INVALID_ARGUMENT like any other wrong request, not an internal matter."""
    service = pb.MODEL_SERVICE if "Model" in method else pb.STYLEGAN_SERVICE
    with demo_server.channel() as channel:
        make = channel.unary_stream if method == "Interpolate" else channel.unary_unary
        error = refusal(make(f"/{service}/{method}"), content)

    assert InvalidFieldError is type(error)
    assert error.request_id
    stubs_images = demo_stubs.of["Generate"](NEIGHBOR).images
    demo_stubs.check_neighbor(stubs_images)


@pytest.fixture(scope="module")
def strict_stubs(small_models):
    limits = {"max_message_bytes": 1 << 20, "max_latents": 4, "max_frames": 5, "max_image_bytes": 1000}
    with running_server(models=small_models, default_model="plain", **limits) as server, server.channel() as channel:
        yield Stubs(channel)


def test_message_over_the_limit_is_refused(strict_stubs):
    """A message larger than the limit is RESOURCE_EXHAUSTED, unread, and the connection goes on."""
    large = to_tensor(np.zeros(2**19, np.float32))
    caught = failure(strict_stubs.of["Generate"], pb.GenerateRequest(latents=[pb.Latent(z=large)]))

    assert grpc.StatusCode.RESOURCE_EXHAUSTED == caught.code()
    strict_stubs.check_neighbor(strict_stubs.of["Generate"](NEIGHBOR).images)


def test_limits_are_settings(strict_stubs):
    """The limits of latents and frames are those of the settings, and the message names them."""
    many = refusal(strict_stubs.of["Generate"], pb.GenerateRequest(latents=[good("")] * 5))
    long = refusal(strict_stubs.of["Interpolate"], pb.InterpolateRequest(keyframes=[good("")] * 2, frame_count=6))

    assert ("latents", "has 5 elements; expected 1 to 4") == many.violations[0]
    assert ("frame_count", "is 6; required, 1 to 5") == long.violations[0]


def test_reply_over_the_limit_is_refused_before_it_is_made(small_models):
    """Tensors that would not fit into a reply are refused as a wrong format, not after the work."""
    tensor = pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR)
    with (
        running_server(models=small_models, max_message_bytes=20_000) as server,
        server.channel() as channel,
    ):
        stub = pb.StyleGanServiceStub(channel)
        request = {"model": "plain", "output_config": tensor}
        one = stub.Generate(pb.GenerateRequest(latents=[good("")], **request))
        error = refusal(stub.Generate, pb.GenerateRequest(latents=[good("")] * 2, **request))

    assert 1 == len(one.images)
    assert ["output_config.format"] == [violation.field for violation in error.violations]


def test_deadline_in_the_past_is_refused(demo_stubs):
    """A call whose time is over when it arrives costs nothing and hurts nobody."""
    caught = failure(demo_stubs.of["Generate"], NEIGHBOR, timeout=0)

    assert "DEADLINE" == from_rpc_error(caught).reason
    demo_stubs.check_neighbor(demo_stubs.of["Generate"](NEIGHBOR).images)
