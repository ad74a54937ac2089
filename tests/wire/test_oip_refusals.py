"""What the Open Inference Protocol refuses: requests that are wrong, too late, or of strangers."""

import asyncio

import numpy as np
import pytest
import tritonclient.grpc as sync_client
from tritonclient.utils import InferenceServerException

from stylewire import oip_pb
from stylewire.demo import MODELS
from support.gates import held
from support.oip import call, given, infer_request, normal
from support.refusals import refusal
from support.servers import running_server

# --- what is refused -------------------------------------------------------------------------------------------------


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


# --- versions, and the end -------------------------------------------------------------------------------------------


def test_call_in_flight_is_answered_at_the_end():
    """At the end a call that was accepted is finished, and one that comes is told to go elsewhere."""
    with running_server(models=MODELS / "pixels") as server:
        request = infer_request("pixels", seed=("UINT32", (1, 1), [7]))
        with server.channel() as channel, held(server, "synthesis") as gate:
            in_flight = channel.unary_unary(
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
            reply = in_flight.result(30)
            closing.result(30)

    assert "DRAINING" == late.reason
    assert 64 * 64 * 3 == len(reply.raw_output_contents[0])
