"""A repository of the Python variant on a real Triton: its outputs are what the graphs compute here."""

import importlib
import sys
import sysconfig
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton_grpc

from stylewire.demo import MODELS
from stylewire_export.triton.config import Serving
from stylewire_export.triton.repository import find_models, write_repository
from support.triton import RunningTriton, running_triton

AVATARS = MODELS / "avatars"


@pytest.fixture(scope="module")
def repository(dcgan_model, tmp_path_factory):
    """The demo model with its encoder, and a generator without styles that takes labels."""
    out = tmp_path_factory.mktemp("serving") / "repository"
    serving = Serving(variant="python", max_batch_size=4, threads=1)
    write_repository([*find_models(AVATARS), dcgan_model], out, serving, force=False)
    return out


@pytest.fixture(scope="module")
def client(repository):
    with running_triton(repository) as triton, triton_grpc.InferenceServerClient(triton.grpc_address) as client:
        yield client


def infer(client, model, outputs, **inputs):
    """Call a model; return the outputs by name."""
    tensors = []
    for name, array in inputs.items():
        tensors.append(triton_grpc.InferInput(name, array.shape, "FP32"))
        tensors[-1].set_data_from_numpy(array)
    wanted = [triton_grpc.InferRequestedOutput(name) for name in outputs]
    # Far more than it takes: a machine may be busy.
    response = client.infer(model, tensors, outputs=wanted, client_timeout=60)
    assert sorted(outputs) == sorted(each.name for each in response.get_response().outputs)
    return {name: response.as_numpy(name) for name in outputs}


def compute(directory, graph, outputs, **inputs):
    """Run a graph of a model directory here."""
    session = onnxruntime.InferenceSession(directory / f"{graph}.onnx", providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(outputs, inputs), strict=True))


def draw(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def test_every_model_is_loaded_and_warm(client):
    """Every model is ready, and has run its warm-up of one item and of as many as fit."""
    index = client.get_model_repository_index().models
    graphs = [each.name for each in index if "." in each.name]
    statistics = [client.get_inference_statistics(name).model_stats[0] for name in graphs]

    assert {"avatars", "dcgan", *graphs} == {each.name for each in index}
    assert {"READY"} == {each.state for each in index}
    assert 5 == len(graphs)
    for each in statistics:
        assert {1, 4} <= {batch.batch_size for batch in each.batch_stats}


def test_server_keeps_what_was_configured(client):
    """Triton has understood the queue policy: requests may say how long they wait, and too many are refused."""
    queue = client.get_model_config("avatars.synthesis").config.dynamic_batching.default_queue_policy

    assert (64, True, queue.REJECT) == (queue.max_queue_size, queue.allow_timeout_override, queue.timeout_action)


def test_ensemble_makes_the_pixels_of_the_graphs(client):
    """From z to pixels, Triton's ensemble makes what onnxruntime makes here."""
    z = draw(3, 128)
    got = infer(client, "avatars", ["pixels"], z=z)["pixels"]
    w = compute(AVATARS, "mapping", ["w"], z=z)["w"]
    noise = {"noise_strength": np.ones(3, np.float32), "noise": np.zeros((3, 1), np.float32)}
    code = np.repeat(w[:, None], 10, 1)  # [N, L, D]
    expected = compute(AVATARS, "synthesis", ["pixels"], w_plus=code, **noise)["pixels"]

    assert (3, 64, 64, 3) == got.shape
    assert np.uint8 == got.dtype
    difference = np.abs(expected.astype(int) - got).max()
    print(f"ensemble: {difference} levels")
    assert difference <= 1


def test_generator_without_styles_takes_labels(client, dcgan_model):
    """The ensemble of a generator without styles is its one graph, label included."""
    inputs = {"z": draw(2, 4), "label": np.eye(2, dtype=np.float32)}
    got = infer(client, "dcgan", ["pixels"], **inputs)["pixels"]
    expected = compute(dcgan_model, "generator", ["pixels"], **inputs)["pixels"]

    assert np.abs(expected.astype(int) - got).max() <= 1


def test_encoder_makes_the_same_code(client):
    """A picture's code is the one that onnxruntime finds here."""
    image = np.clip(draw(2, 3, 64, 64), -1, 1)
    got = infer(client, "avatars.encoder", ["w_plus"], image=image)["w_plus"]
    expected = compute(AVATARS, "encoder", ["w_plus"], image=image)["w_plus"]

    assert np.abs(expected - got).max() < 1e-4


def test_requests_that_differ_get_their_own_rows(client):
    """Calls at once, of different sizes, with noise and without, for pixels or the image, each get what is theirs."""

    def inputs_of(number):
        count = 1 + number % 3
        noise = draw(count, 10896, seed=number) if number % 2 else np.zeros((count, 1), np.float32)
        return {
            "w_plus": draw(count, 10, 128, seed=number),
            "noise_strength": np.full((count, 1), (number + 1) % 2, np.float32),  # Triton's form of [N]
            "noise": noise,
        }

    def outputs_of(number):
        return [["pixels"], ["image"], ["pixels", "image"]][number % 3 if number < 9 else 0]

    with ThreadPoolExecutor(12) as pool:
        got = list(pool.map(lambda n: infer(client, "avatars.synthesis", outputs_of(n), **inputs_of(n)), range(12)))

    for number, outputs in enumerate(got):
        inputs = inputs_of(number)
        inputs["noise_strength"] = inputs["noise_strength"][:, 0]
        expected = compute(AVATARS, "synthesis", outputs_of(number), **inputs)
        for name, array in outputs.items():
            assert expected[name].shape == array.shape
            assert np.abs(expected[name].astype(float) - array).max() <= (1 if name == "pixels" else 1e-3)


def test_requests_are_batched(client):
    """Calls at once run together: fewer batches than requests."""

    def counts():
        found = client.get_inference_statistics("avatars.synthesis").model_stats[0]
        return np.array([found.inference_count, found.execution_count])

    before = counts()
    with ThreadPoolExecutor(16) as pool:
        shapes = set(
            pool.map(lambda n: infer(client, "avatars", ["pixels"], z=draw(1, 128, seed=n))["pixels"].shape, range(48))
        )
    inferences, executions = counts() - before

    assert {(1, 64, 64, 3)} == shapes
    print(f"{inferences} inferences in {executions} executions")
    assert 48 == inferences
    assert executions < inferences


class FakeRequest:
    def __init__(self, z, *, cancelled=False):
        self._z, self._cancelled = z, cancelled

    def is_cancelled(self):
        return self._cancelled

    def requested_output_names(self):
        return ["w"]

    def as_numpy(self):
        return self._z


class FakeSession:
    """Doubles what it is fed, and keeps how many rows that were; fails on what is not a number."""

    def __init__(self):
        self.row_counts = []

    def run(self, names, feed):
        self.row_counts.append(len(feed["z"]))
        if np.isnan(feed["z"]).any():
            raise RuntimeError("[ONNXRuntimeError] /secret/path")
        return [feed["z"] * 2]


@pytest.fixture
def model(monkeypatch):
    """The model of the Python variant outside of Triton, which lends it its types."""
    utils = types.SimpleNamespace(
        get_input_tensor_by_name=lambda request, name: request,
        Tensor=lambda name, array: (name, array.tolist()),
        TritonError=lambda text, code: (code, text),
        InferenceResponse=lambda tensors=None, error=None: error or dict(tensors),
        Logger=types.SimpleNamespace(log_error=print),
    )
    utils.TritonError.CANCELLED, utils.TritonError.INTERNAL = "cancelled", "internal"
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "stylewire_export.triton.model", raising=False)
    module = importlib.import_module("stylewire_export.triton.model")
    made = module.TritonPythonModel()
    made._session, made._inputs, made._outputs = FakeSession(), ["z"], ["w"]
    return made


def test_failure_is_one_sentence(model, capfd):
    """What onnxruntime says of a failure is for the log; each caller of the batch gets one sentence."""
    responses = model.execute([FakeRequest(np.full((1, 1), np.nan)), FakeRequest(np.ones((2, 1)))])

    assert [("internal", "the graph failed; the log of Triton says why")] * 2 == responses
    assert "/secret/path" in capfd.readouterr().out


def test_cancelled_requests_are_not_computed(model):
    """A request whose caller has gone takes no part in the batch; the others get their rows."""
    gone = FakeRequest(np.zeros((4, 1)), cancelled=True)
    responses = model.execute([FakeRequest(np.ones((1, 1))), gone, FakeRequest(np.full((2, 1), 3.0))])

    assert [{"w": [[2.0]]}, ("cancelled", "cancelled"), {"w": [[6.0], [6.0]]}] == responses
    assert [3] == model._session.row_counts
    assert [("cancelled", "cancelled")] == model.execute([gone])
    assert [3] == model._session.row_counts


def test_numpy_that_the_backend_mistakes_is_refused(repository):
    """With numpy 2, of which this backend would send nothing, no model starts, and the log says what to install."""
    with pytest.raises(RuntimeError, match="install numpy<2 for Triton's Python"):
        RunningTriton(repository, ["--log-info=false"], packages=[sysconfig.get_path("platlib")])
