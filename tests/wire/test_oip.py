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
from tritonclient.utils import InferenceServerException

from stylewire import latents, oip_pb, pb
from stylewire.client.inputs import seed
from stylewire.demo import MODELS
from support.folders import fail_the_self_check, put
from support.gates import held
from support.oip import call, given, wanted
from support.perf_analyzer import measure
from support.pictures import pixels
from support.refusals import refusal
from support.scrape import Scrape, wait_for
from support.servers import running_server

SWEEP = ["--measurement-interval", "400", "--max-trials", "3", "--stability-percentage", "999"]
SWEEP += ["--concurrency-range", "1:4:1"]
NAMES = ["avatars", "avatars.encoder", "avatars.mapping", "avatars.synthesis", "pixels", "pixels.mapping"]
NAMES += ["pixels.synthesis"]


def normal(*shape, start=0):
    return np.random.default_rng(start).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def triton(demo_server):
    with sync_client.InferenceServerClient(demo_server.address) as client:
        yield client


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
    """Without a wish the pixels come; image comes on request, in the place where it was asked for."""
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


# --- what is refused -------------------------------------------------------------------------------------------------


def infer_request(model, *, raw=(), outputs=(), **inputs):
    """Make a request of typed contents, or of raw ones if those are given."""
    request = oip_pb.ModelInferRequest(model_name=model, raw_input_contents=raw)
    for name, (datatype, shape, values) in inputs.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        field = {"FP32": "fp32_contents", "INT64": "int64_contents", "UINT32": "uint_contents"}.get(datatype)
        if values:
            getattr(tensor.contents, field).extend(values)
    for name in outputs:
        request.outputs.add(name=name)
    return request


def one_seed(**fields):
    return infer_request("avatars", seed=("UINT32", (1, 1), [7]), **fields)


def changed(request, change):
    change(request)
    return request


MAPPING = "avatars.mapping"
WRONG = {
    "unknown input": (infer_request(MAPPING, y=("FP32", (1, 128), [0.0] * 128)), "inputs[0].name"),
    "missing input": (infer_request(MAPPING), "inputs"),
    "datatype": (infer_request(MAPPING, z=("INT64", (1, 128), [0] * 128)), "inputs[0].datatype"),
    "datatype of nobody": (infer_request(MAPPING, z=("FP33", (1, 128), [])), "inputs[0].datatype"),
    "shape": (infer_request(MAPPING, z=("FP32", (1, 127), [0.0] * 127)), "inputs[0].shape"),
    "no shape": (infer_request(MAPPING, z=("FP32", (), [0.0])), "inputs[0].shape"),
    "negative shape": (infer_request(MAPPING, z=("FP32", (-1, 128), [0.0] * 128)), "inputs[0].shape"),
    "no rows": (infer_request(MAPPING, z=("FP32", (0, 128), [])), "inputs[0].shape"),
    "too many rows": (infer_request(MAPPING, z=("FP32", (65, 128), [0.0] * 65 * 128)), "inputs[0].shape"),
    "enormous shape": (infer_request(MAPPING, z=("FP32", (2**62, 2**62), [])), "inputs[0].shape"),
    "endless shape": (infer_request(MAPPING, z=("FP32", [2**62] * 100_000, [])), "inputs[0].shape"),
    "too many inputs": (
        infer_request(MAPPING, **{f"z{k}": ("FP32", (1, 128), []) for k in range(9)}),
        "inputs[8].name",
    ),
    "too few elements": (infer_request(MAPPING, z=("FP32", (1, 128), [0.0])), "inputs[0].contents.fp32_contents"),
    "too few bytes": (
        infer_request(MAPPING, z=("FP32", (1, 128), []), raw=[bytes(511)]),
        "raw_input_contents[0]",
    ),
    "too many raw": (infer_request(MAPPING, z=("FP32", (1, 128), []), raw=[bytes(512)] * 2), "raw_input_contents"),
    "raw and typed": (
        infer_request(MAPPING, z=("FP32", (1, 128), [0.0] * 128), raw=[bytes(512)]),
        "inputs[0].contents",
    ),
    "NaN": (infer_request(MAPPING, z=("FP32", (1, 128), [float("nan")] * 128)), "inputs[0]"),
    "infinity": (infer_request(MAPPING, z=("FP32", (1, 128), [0.0] * 127 + [float("inf")])), "inputs[0]"),
    "rows that differ": (
        infer_request(
            "avatars.synthesis", w_plus=("FP32", (2, 10, 128), [0.0] * 2560), noise_strength=("FP32", (1, 1), [1.0])
        ),
        "inputs[1].shape",
    ),
    "seed and z": (
        infer_request("avatars", seed=("UINT32", (1, 1), [1]), z=("FP32", (1, 128), [0.0] * 128)),
        "inputs",
    ),
    "neither seed nor z": (infer_request("avatars"), "inputs"),
    "negative seed": (infer_request("avatars", seed=("INT64", (1, 1), [-1])), "inputs[seed]"),
    "large seed": (infer_request("avatars", seed=("INT64", (1, 1), [2**32])), "inputs[seed]"),
    "psi": (infer_request("avatars", seed=("UINT32", (1,), [1]), psi=("FP32", (1,), [2.1])), "inputs[psi]"),
    "unknown output": (one_seed(outputs=["pixel"]), "outputs[0].name"),
    "output twice": (one_seed(outputs=["pixels", "pixels"]), "outputs[1].name"),
    "input twice": (
        changed(one_seed(), lambda request: request.inputs.append(request.inputs[0])),
        "inputs[1].name",
    ),
    "shared memory": (
        changed(
            one_seed(),
            lambda request: (
                request.inputs[0]
                .parameters["shared_memory_region"]
                .MergeFrom(type(request.parameters["x"])(string_param="mine"))
            ),
        ),
        "inputs[0].parameters[shared_memory_region]",
    ),
    "timeout": (
        changed(one_seed(), lambda request: setattr(request.parameters["timeout"], "int64_param", -1)),
        "parameters[timeout]",
    ),
}


@pytest.mark.parametrize(("request_", "field"), WRONG.values(), ids=WRONG)
def test_wrong_request_names_the_field(demo_server, request_, field):
    """Whatever is wrong with a request is INVALID_ARGUMENT, by the name of the field."""
    with demo_server.channel() as channel:
        error = refusal(lambda request: call(channel, "ModelInfer", request), request_)

    assert "INVALID_FIELD" == error.reason
    assert field in [violation.field for violation in error.violations]


@pytest.mark.parametrize(
    ("model", "version"), [("nobody", ""), ("avatars", "7"), ("avatars.nothing", ""), ("avatars@1", ""), ("", "")]
)
@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "ModelConfig"])
def test_unknown_model_is_not_found(demo_server, method, model, version):
    """Every call about a model that there is not ends with NOT_FOUND."""
    names = ("model_name", "model_version") if method == "ModelInfer" else ("name", "version")
    request = getattr(oip_pb, f"{method}Request")(**dict(zip(names, (model, version), strict=True)))
    with demo_server.channel() as channel:
        error = refusal(lambda request: call(channel, method, request), request)

    assert "MODEL_NOT_FOUND" == error.reason


def test_client_of_triton_hears_what_is_wrong(triton):
    """The text of an error reaches the user of tritonclient."""
    with pytest.raises(InferenceServerException, match=r"inputs\[0\]\.shape: is \[1, 3\]; expected FP32 \[N, 128\]"):
        triton.infer("avatars.mapping", given(z=normal(1, 3)))


def test_timeout_is_a_deadline(triton):
    """A request whose time is over before it runs ends with DEADLINE_EXCEEDED; without one it is answered."""
    inputs = given(w_plus=normal(1, 10, 128))
    with pytest.raises(InferenceServerException, match="DEADLINE_EXCEEDED"):
        triton.infer("avatars.synthesis", inputs, timeout=1)

    assert (1, 64, 64, 3) == triton.infer("avatars.synthesis", inputs, timeout=60_000_000).as_numpy("pixels").shape


def test_token_is_needed_as_everywhere(tmp_path):
    """Without a token no call is answered; with one, sent as tritonclient sends headers, all are."""
    token = "token-of-the-test-0123456789"
    (tmp_path / "tokens").write_text(f"web {token}\n", encoding="utf-8")
    with (
        running_server(models=MODELS / "pixels", tokens_file=tmp_path / "tokens") as server,
        sync_client.InferenceServerClient(server.address) as client,
    ):
        with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
            client.get_server_metadata()
        with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
            client.infer("pixels", given(seed=np.array([1], np.uint32)))
        headers = {"authorization": f"Bearer {token}"}
        result = client.infer("pixels", given(seed=np.array([1], np.uint32)), headers=headers)

    assert result.as_numpy("pixels") is not None


# --- what is counted -------------------------------------------------------------------------------------------------


def statistics(client, name):
    (found,) = client.get_inference_statistics(name).model_stats
    return found


def test_statistics_add_up(triton):
    """Rows, requests and batches are counted, refused requests apart; times are parts of a sum."""
    names = ("avatars", "avatars.mapping", "avatars.synthesis")
    before = {name: statistics(triton, name) for name in names}
    for rows in (1, 3, 2):
        triton.infer("avatars", given(seed=np.arange(rows, dtype=np.uint32)))
    with pytest.raises(InferenceServerException, match="DEADLINE_EXCEEDED"):
        triton.infer("avatars", given(seed=np.zeros(1, np.uint32)), timeout=1)
    after = {name: statistics(triton, name) for name in names}

    for name in names:
        past, now = before[name], after[name]
        times = now.inference_stats
        parts = [times.queue, times.compute_input, times.compute_infer, times.compute_output]
        rows_then, rows_now = (
            sum(each.batch_size * each.compute_infer.count for each in found.batch_stats) for found in (past, now)
        )
        # A mapping network that runs on the event loop knows no deadline.
        assert now.inference_count - past.inference_count in ((6, 7) if name == "avatars.mapping" else (6,))
        # Not in all: rows of callers of other tests, who left meanwhile, ran and were answered to nobody.
        assert now.inference_count - past.inference_count == rows_now - rows_then
        assert sum(each.compute_infer.count for each in now.batch_stats) == now.execution_count
        assert {times.success.count} == {each.count for each in parts}
        assert len(parts) >= abs(times.success.ns - sum(each.ns for each in parts))
        assert now.last_inference > past.last_inference
    assert 1 == after["avatars"].inference_stats.fail.count - before["avatars"].inference_stats.fail.count


def test_statistics_of_all_models_are_listed(triton):
    """Asked about none, they are those of every model."""
    assert NAMES == [each.name for each in triton.get_inference_statistics().model_stats]


def test_graphs_count_what_other_services_ask(triton, demo):
    """A picture that Generate draws is a row of the graph that drew it, and none of the whole model."""
    names = ("avatars", "avatars.synthesis")
    before = [statistics(triton, name).inference_count for name in names]
    demo.Generate(pb.GenerateRequest(latents=[seed(1), seed(2)]))

    assert [0, 2] == [statistics(triton, name).inference_count - n for name, n in zip(names, before, strict=True)]


def test_calls_are_in_the_metrics_and_in_the_log(demo_server, triton, caplog):
    """Each method is there from the start; a call has a line with its model and its times."""
    labels = {"grpc_service": oip_pb.SERVICE, "grpc_method": "ModelInfer"}
    unseen = Scrape(demo_server.metrics_url).value("grpc_server_handled_total", **labels, grpc_code="DATA_LOSS")
    before = Scrape(demo_server.metrics_url).count("grpc_server_handled_total", **labels, grpc_code="OK")
    with caplog.at_level("INFO", "stylewire.server.front.transport.interceptor"):
        triton.infer("avatars", given(seed=np.array([1], np.uint32)))
        wait_for(
            demo_server.metrics_url,
            lambda scrape: scrape.count("grpc_server_handled_total", **labels, grpc_code="OK") > before,
        )
    line = next(record.msg for record in caplog.records if record.msg.get("method") == "ModelInfer")

    assert 0 == unseen
    assert ("avatars", "OK", 1) == (line["model"], line["code"], line["batch"])
    assert 0 < line["inference_ms"]


def test_perf_analyzer_sweeps_and_its_numbers_are_ours(demo_server, triton):
    """perf_analyzer runs a sweep as it is; what it says the server did is what it asked for."""
    before = statistics(triton, "avatars")
    steps = measure(demo_server.address, "avatars", *SWEEP)
    after = statistics(triton, "avatars")

    assert [1, 2, 3, 4] == [step.concurrency for step in steps]
    for step in steps:
        parts = step.overhead + step.queue + step.input + step.infer + step.output
        assert step.rows == step.answered == step.batches
        # Those that began or ended beside one of its three windows.
        assert 4 * step.concurrency >= abs(step.requests - step.rows)
        assert 5 >= abs(step.latency - parts)
    assert sum(step.rows for step in steps) <= after.inference_count - before.inference_count


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


def test_call_under_way_is_answered_at_the_end():
    """At the end a call that was accepted is finished, and one that comes is told to go elsewhere."""
    with running_server(models=MODELS / "pixels") as server:
        request = infer_request("pixels", seed=("UINT32", (1, 1), [7]))
        with server.channel() as channel, held(server, "synthesis") as gate:
            under_way = channel.unary_unary(
                f"/{oip_pb.SERVICE}/ModelInfer",
                lambda message: message.SerializeToString(),
                oip_pb.ModelInferResponse.FromString,
            ).future(request)
            gate.wait_for(batches=1)
            closing = asyncio.run_coroutine_threadsafe(server.app.interceptor.drain.drain(30), server.loop)
            while not server.app.interceptor.drain.draining:
                pass
            late = refusal(lambda request: call(channel, "ModelInfer", request), request)
            gate.open()
            reply = under_way.result(30)
            closing.result(30)

    assert "DRAINING" == late.reason
    assert 64 * 64 * 3 == len(reply.raw_output_contents[0])


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
