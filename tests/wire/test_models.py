"""ModelService over a real connection."""

import pytest

from stylewire import ModelNotFoundError, pb
from support.refusals import refusal

NAMES = ["classes", "plain", "rgba", "twin"]


@pytest.fixture
def models(small_server):
    with small_server.channel() as channel:
        yield pb.ModelServiceStub(channel)


def test_models_are_listed_by_name(models):
    """All models come in the order of their names, and the default one says so."""
    reply = models.ListModels(pb.ListModelsRequest())

    assert NAMES == [model.name for model in reply.models]
    assert ["plain"] == [model.name for model in reply.models if model.default_model]
    assert reply.next_page_token == ""


@pytest.mark.parametrize("page_size", [1, 2, 3, 4, 1000, 2**31 - 1])
def test_pages_hold_every_model_once(models, page_size):
    """Pages of any size, followed by their tokens, give every model once; the last has no token."""
    found, token = [], ""
    while True:
        page = models.ListModels(pb.ListModelsRequest(page_size=page_size, page_token=token))
        found += [model.name for model in page.models]
        token = page.next_page_token
        assert 1 <= len(page.models) <= page_size
        if not token:
            break

    assert NAMES == found


def test_model_describes_itself(models):
    """Sizes, layers, backend and digest are those of the model directory."""
    model = models.GetModel(pb.GetModelRequest(name="rgba")).model

    assert (32, 4, 16, 16, 0, 8) == (
        model.resolution_px,
        model.image_channels,
        model.z_dim,
        model.w_dim,
        model.label_dim,
        model.layer_count,
    )
    assert [4, 8, 8, 16, 16, 32, 32, 32] == [layer.resolution_px for layer in model.layers]
    assert ["coarse"] * 3 + ["middle"] * 5 == [layer.role for layer in model.layers]
    assert ("onnxruntime", "cpu", "fp32") == (model.backend, model.device, model.precision)
    assert (pb.Model.STATE_READY, "") == (model.state, model.state_reason)
    assert model.digest.startswith("sha256:")


def test_capabilities_are_those_of_the_graphs(demo_server):
    """A model with an encoder can INVERT, one without cannot."""
    with demo_server.channel() as channel:
        stub = pb.ModelServiceStub(channel)
        avatars, pixels = stub.ListModels(pb.ListModelsRequest()).models

    both = [pb.CAPABILITY_GENERATE, pb.CAPABILITY_SYNTHESIZE]
    assert [*both, pb.CAPABILITY_INVERT] == list(avatars.capabilities)
    assert both == list(pixels.capabilities)
    assert ["encoder"] == [encoder.name for encoder in avatars.encoders]
    assert avatars.latent_space == pixels.latent_space
    assert avatars.attribution


def test_model_without_a_name_is_the_default(models):
    """An empty name means the default model, and its digest is that of replies."""
    model = models.GetModel(pb.GetModelRequest()).model

    assert ("plain", True) == (model.name, model.default_model)


def test_digest_tells_models_apart(models, small):
    """Each model has its own digest, the one that replies carry."""
    digests = {model.name: model.digest for model in models.ListModels(pb.ListModelsRequest()).models}
    reply = small.Generate(pb.GenerateRequest(model="twin", latents=[pb.Latent(seed=1)]))

    assert 4 == len(set(digests.values()))
    assert digests["twin"] == reply.model_digest


@pytest.mark.parametrize("name", ["nobody", "../plain", "x" * 5000, "\N{SNOWMAN}"])
def test_unknown_model_is_not_found(models, name):
    """An unknown name is NOT_FOUND with the name as resource, shortened, and the message lists the known ones."""
    error = refusal(models.GetModel, pb.GetModelRequest(name=name))

    assert ModelNotFoundError is type(error)
    assert ("stylewire.Model", name[:80]) == error.resource
    assert "classes, plain, rgba, twin" in error.message
