"""The Open Inference Protocol, spoken to by unmodified clients of Triton."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as sync_client
import tritonclient.grpc.aio as aio_client

from stylewire import latents, oip_pb, pb
from stylewire.client.inputs import seed
from stylewire.demo import MODELS
from support.folders import fail_the_self_check, put
from support.oip import call, given, infer_request, normal, wanted
from support.pictures import pixels
from support.scrape import wait_for
from support.servers import running_server

NAMES = ["avatars", "avatars.encoder", "avatars.mapping", "avatars.synthesis", "pixels", "pixels.mapping"]
NAMES += ["pixels.synthesis"]


# --- what there is ---------------------------------------------------------------------------------------------------


def test_server_says_what_it_is(triton):
    """The server is live and ready, names itself, and lists its models with their versions."""
    metadata, index = triton.get_server_metadata(), triton.get_model_repository_index()

    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert "stylewire" == metadata.name
    assert "statistics" in metadata.extensions
    assert [(name, "1", "READY") for name in NAMES] == [(each.name, each.version, each.state) for each in index.models]


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [
        ("avatars", "", True),
        ("avatars", "1", True),
        ("avatars.synthesis", "1", True),
        ("avatars", "2", False),
        ("avatars.generator", "", False),
        ("nobody", "", False),
        ("avatars.", "", False),
        ("", "", False),
    ],
)
def test_model_says_whether_it_is_ready(triton, name, version, ready):
    """A model that there is answers, and one that there is not does not, without an error."""
    assert ready == triton.is_model_ready(name, version)


@pytest.mark.parametrize("name", NAMES)
def test_metadata_and_configuration_name_the_same_tensors(triton, name):
    """What perf_analyzer compares is equal, but for the axis of the batch."""
    metadata, config = triton.get_model_metadata(name), triton.get_model_config(name).config
    outlines = [(each.name, [-1, *each.dims]) for each in (*config.input, *config.output)]

    assert name == metadata.name == config.name
    assert outlines == [(each.name, list(each.shape)) for each in (*metadata.inputs, *metadata.outputs)]
    assert 64 == config.max_batch_size
    assert config.HasField("dynamic_batching")


def test_configuration_names_what_else_a_request_may_have(triton):
    """Inputs and outputs that clients need not know of are parameters."""
    parameters = triton.get_model_config("avatars").config.parameters

    assert "z FP32 [N, 128]; psi FP32 [N, 1]" == parameters["more_inputs"].string_value
    assert "image FP32 [N, 3, 64, 64]" == parameters["more_outputs"].string_value


def test_metadata_says_which_content_it_is(demo_server):
    """The digest is that of GetModel."""
    with demo_server.channel() as channel:
        metadata = call(channel, "ModelMetadata", oip_pb.ModelMetadataRequest(name="avatars"))
        model = pb.ModelServiceStub(channel).GetModel(pb.GetModelRequest(name="avatars")).model

    assert model.digest == metadata.properties["digest"]


# --- running ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint32, np.int64])
def test_whole_model_draws_what_generate_draws(triton, demo, dtype):
    """Seeds give the very pixels of Generate, in the order of the request, and the id comes back."""
    numbers = [7, 2**32 - 1, 0]
    result = triton.infer("avatars", given(seed=np.array([numbers], dtype).T), request_id="r1")
    output = pb.OutputConfig(format=pb.IMAGE_FORMAT_PIXELS)
    reply = demo.Generate(pb.GenerateRequest(latents=[seed(each) for each in numbers], output_config=output))
    difference = result.as_numpy("pixels").astype(int) - np.stack([pixels(image) for image in reply.images])

    assert 1 >= abs(difference).max()
    assert ("r1", "avatars", "1") == tuple(
        getattr(result.get_response(), name) for name in ("id", "model_name", "model_version")
    )


def test_whole_model_takes_z_and_psi(triton, demo):
    """``z`` and psi of each row give the pixels of Generate with these truncations."""
    z = np.stack([latents.sample_z(number, 128) for number in (3, 4)])
    result = triton.infer("avatars", given(z=z, psi=np.array([0.5, 1], np.float32)))
    sources = [pb.Latent(seed=number, truncation=pb.Truncation(psi=psi)) for number, psi in ((3, 0.5), (4, 1))]
    output = pb.OutputConfig(format=pb.IMAGE_FORMAT_PIXELS)
    reply = demo.Generate(pb.GenerateRequest(latents=sources, output_config=output))

    assert 1 >= abs(result.as_numpy("pixels").astype(int) - np.stack([pixels(each) for each in reply.images])).max()


@pytest.mark.parametrize(
    ("graph", "inputs"),
    [
        ("mapping", {"z": normal(3, 128)}),
        ("synthesis", {"w_plus": normal(2, 10, 128), "noise_strength": np.ones((2, 1), np.float32)}),
        ("synthesis", {"w_plus": normal(2, 10, 128), "noise_strength": np.zeros(2, np.float32)}),
        ("encoder", {"image": normal(2, 3, 64, 64)}),
    ],
    ids=["mapping", "synthesis", "synthesis without noise", "encoder"],
)
def test_graph_gives_what_its_file_gives(triton, graph, inputs):
    """Each graph gives the outputs of its ONNX file, all that it has if they are asked for."""
    session = onnxruntime.InferenceSession(MODELS / "avatars" / f"{graph}.onnx", providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    fed = {name: array.reshape(-1) if name == "noise_strength" else array for name, array in inputs.items()}
    fed |= {"noise": np.zeros((2, 1), np.float32)} if graph == "synthesis" else {}
    fed = {each.name: fed[each.name] for each in session.get_inputs()}
    expected = dict(zip(names, session.run(names, fed), strict=True))
    result = triton.infer(f"avatars.{graph}", given(**inputs), outputs=wanted(*names))

    for name, array in expected.items():
        np.testing.assert_allclose(result.as_numpy(name), array, rtol=1e-3, atol=1 if array.dtype == np.uint8 else 1e-3)
        assert array.dtype == result.as_numpy(name).dtype


def test_outputs_come_as_they_are_asked_for(triton):
    """Without requested outputs the pixels come; image comes on request, in the place where it was asked for."""
    inputs = given(w_plus=normal(1, 10, 128))
    usual = triton.infer("avatars.synthesis", inputs).get_response()
    both = triton.infer("avatars.synthesis", inputs, outputs=wanted("image", "pixels")).get_response()

    assert ["pixels"] == [each.name for each in usual.outputs]
    assert ["image", "pixels"] == [each.name for each in both.outputs]
    assert [3 * 64 * 64 * 4, 64 * 64 * 3] == [len(each) for each in both.raw_output_contents]


def test_typed_contents_are_as_good_as_raw_ones(demo_server, triton):
    """A client that fills lists gets what one gets that sends bytes."""
    z = normal(2, 128)
    request = infer_request("avatars.mapping", z=("FP32", (2, 128), z.reshape(-1).tolist()))
    with demo_server.channel() as channel:
        reply = call(channel, "ModelInfer", request)
    raw = triton.infer("avatars.mapping", given(z=z)).get_response()

    assert list(raw.raw_output_contents) == list(reply.raw_output_contents)


def test_model_without_versions_is_version_one(triton):
    """Asked for by its number or by none, the answer is the same."""
    inputs = given(seed=np.array([5], np.uint32))
    replies = [triton.infer("avatars", inputs, model_version=version).as_numpy("pixels") for version in ("", "1")]

    np.testing.assert_array_equal(*replies)


def test_large_request_is_run_in_parts(triton):
    """As many rows as a request may have come back in order, however many a batch has; and are read in a thread."""
    codes = normal(64, 10, 128)
    whole = triton.infer("avatars.synthesis", given(w_plus=codes)).as_numpy("pixels")
    last = triton.infer("avatars.synthesis", given(w_plus=codes[-1:])).as_numpy("pixels")

    assert (64, 64, 64, 3) == whole.shape
    assert 1 >= abs(whole[-1:].astype(int) - last).max()


def test_asynchronous_client_makes_every_call(demo_server):
    """The client for asyncio gets the same answers, many at once."""

    async def story():
        async with aio_client.InferenceServerClient(demo_server.address) as client:
            said = [
                await client.is_server_live(),
                await client.is_server_ready(),
                await client.is_model_ready("pixels"),
            ]
            described = [
                (await client.get_server_metadata()).name,
                (await client.get_model_metadata("pixels")).name,
                (await client.get_model_config("pixels")).config.name,
                (await client.get_inference_statistics("pixels")).model_stats[0].name,
                (await client.get_model_repository_index()).models[0].name,
            ]
            calls = [client.infer("pixels", given(seed=np.array([k], np.uint32)), request_id=str(k)) for k in range(8)]
            return said, described, await asyncio.gather(*calls)

    said, described, results = asyncio.run(story())

    assert [True] * 3 == said
    assert ["stylewire", "pixels", "pixels", "pixels", "avatars"] == described
    assert [str(k) for k in range(8)] == [each.get_response().id for each in results]
    assert 8 == len({each.as_numpy("pixels").tobytes() for each in results})


@pytest.mark.parametrize("order", ["stylewire.oip_pb, tritonclient.grpc", "tritonclient.grpc, stylewire.oip_pb"])
def test_both_descriptions_live_in_one_process(order):
    """``tritonclient`` registers the same names in protobuf's pool, before or after ours are made."""
    code = f"import {order}; assert stylewire.oip_pb.ModelInferRequest is not tritonclient.grpc.service_pb2"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- versions, and the end -------------------------------------------------------------------------------------------


def test_versions_are_versions(tmp_path):
    """Each version answers by its number; what cannot be loaded is listed with the reason."""
    for number in (1, 2):
        put(MODELS / "pixels", tmp_path / "pixels" / str(number))
    with (
        running_server(models=tmp_path, model_versions=2, watch_seconds=0.05) as server,
        sync_client.InferenceServerClient(server.address) as client,
    ):
        fail_the_self_check(put(MODELS / "pixels", tmp_path / ".aside"))
        (tmp_path / ".aside").rename(tmp_path / "pixels" / "3")
        wait_for(server.metrics_url, lambda scrape: scrape.count("stylewire_model_loads_total", result="failed"))
        inputs = given(seed=np.array([1], np.uint32))
        results = [client.infer("pixels", inputs, model_version=version) for version in ("1", "2", "")]
        index = client.get_model_repository_index().models
        metadata = client.get_model_metadata("pixels.synthesis", "1")

    assert ["1", "2", "2"] == [each.get_response().model_version for each in results]
    assert ["1", "2"] == list(metadata.versions)
    assert [("1", "READY", ""), ("2", "READY", ""), ("3", "UNAVAILABLE", "failed")] == [
        (each.version, each.state, each.reason) for each in index if each.name == "pixels"
    ]


# --- what is written about it ----------------------------------------------------------------------------------------


def test_snippet_of_the_page_runs(demo_server):
    """What docs/oip.md shows works as it stands, but for the address of the server."""
    text = (Path(__file__).parents[2] / "docs" / "oip.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(code.replace("localhost:8500", demo_server.address), names)
    names["client"].close()

    assert ((4, 64, 64, 3), np.uint8) == (names["pixels"].shape, names["pixels"].dtype)
    assert ((1, 3, 64, 64), np.float32) == (names["image"].shape, names["image"].dtype)
