"""The server in front of real Tritons: what becomes of calls, readiness and shared memory when they come and go."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import InferenceServerClient

from stylewire import pb
from stylewire.errors import BackendUnavailableError
from stylewire.manifest import ManifestError
from stylewire.server.engine.backends.triton import call
from stylewire.status import from_rpc_error
from stylewire.tensors import to_array
from support.children import free_port
from support.servers import RunningServer, ServerProcess, running_server
from support.triton import RunningTriton, running_triton
from support.triton_models import write_graphs

READY, ALIVE = pb.STYLEGAN_SERVICE, ""
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
PATIENCE_SECONDS = 60
CALLERS = 4
SHARED = Path("/dev/shm")
GATE = """
        while os.path.exists(os.environ["TRITON_TEST_GATE"]):
            time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def models(faces, tmp_path_factory) -> Path:
    """A model named ``faces`` without its graph files: they are at Triton only."""
    directory = tmp_path_factory.mktemp("here") / "faces"
    shutil.copytree(faces[0], directory, ignore=shutil.ignore_patterns("*.onnx", "*.pt", "*.ncnn.*"))
    return directory


@pytest.fixture(scope="module")
def gate(tmp_path_factory) -> Path:
    """While this file is there, no synthesis runs at a Triton."""
    return tmp_path_factory.mktemp("gate") / "closed"


@pytest.fixture(scope="module")
def repository(faces, tmp_path_factory) -> Path:
    """The graphs of ``faces`` at Triton, with batches and a queue of its own, and with the gate."""
    folder = tmp_path_factory.mktemp("triton") / "repository"
    write_graphs(faces[0], folder, batched=True)
    code = folder / "faces.synthesis" / "1" / "model.py"
    text = code.read_text(encoding="utf-8").replace("import json\n", "import json\nimport time\n", 1)
    head, signature, body = text.partition('"""Run the requests that are not cancelled')
    assert signature, "the gate has no place in the model any more"
    line, rest = (signature + body).split("\n", 1)
    code.write_text(f"{head}{line}{GATE}{rest}", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def triton(repository, gate) -> Iterator[RunningTriton]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_TEST_GATE", str(gate))
        with running_triton(repository) as triton:
            yield triton


@pytest.fixture(scope="module")
def server(models, triton) -> Iterator[RunningServer]:
    with running_server(models=models, backend="triton", triton_url=triton.grpc_address) as server:
        yield server


def request(*seeds: int) -> pb.GenerateRequest:
    output = pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR)
    return pb.GenerateRequest(latents=[pb.Latent(seed=seed) for seed in seeds], output_config=output)


def pictures(server: RunningServer, *seeds: int) -> bytes:
    with server.channel() as channel:
        reply = pb.StyleGanServiceStub(channel).Generate(request(*seeds), timeout=PATIENCE_SECONDS)
    return b"".join(to_array(image.tensor).tobytes() for image in reply.images)


def wait_for_health(server: RunningServer, name: str, status: int) -> None:
    with server.channel() as channel:
        answers = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE_SECONDS
        )
        assert status == next(answer.status for answer in answers if answer.status == status)
        answers.cancel()


def health(server: RunningServer, name: str) -> int:
    with server.channel() as channel:
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name)).status


class Load:
    """Callers that ask again and again.

    Attributes:
        codes: how often calls ended in which way.
    """

    def __init__(self, server: RunningServer) -> None:
        self.codes: Counter[str] = Counter()
        self._server, self._stopped = server, threading.Event()
        self._changed = threading.Condition()

    def run(self) -> None:
        with self._server.channel() as channel:
            stub = pb.StyleGanServiceStub(channel)
            while not self._stopped.is_set():
                try:
                    stub.Generate(request(1, 2), timeout=PATIENCE_SECONDS)
                    code = "OK"
                except grpc.RpcError as err:
                    error = from_rpc_error(err)
                    code = f"{err.code().name} {error.reason} {error.retry_after_seconds}"
                    self._stopped.wait(0.05)  # as callers do that are told to retry
                with self._changed:
                    self.codes[code] += 1
                    self._changed.notify_all()

    def wait_for(self, code: str, count: int) -> None:
        """Wait for so many more calls that end so."""
        with self._changed:
            wanted = self.codes[code] + count
            assert self._changed.wait_for(lambda: self.codes[code] >= wanted, PATIENCE_SECONDS), self.codes

    def stop(self) -> None:
        self._stopped.set()


@contextlib.contextmanager
def load(server: RunningServer) -> Iterator[Load]:
    running = Load(server)
    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(running.run) for _ in range(CALLERS)]
        try:
            yield running
        finally:
            running.stop()
    for caller in callers:
        caller.result()


def test_pictures_are_those_of_the_local_backend(server, faces):
    """What Triton draws is byte for byte what the same graphs draw here."""
    with running_server(models=faces[0]) as local:
        expected = pictures(local, 1, 2, 3)

    assert expected == pictures(server, 1, 2, 3)


def test_model_says_where_it_runs(server, triton):
    """The description of a model names the backend and the servers."""
    with server.channel() as channel:
        model = pb.ModelServiceStub(channel).GetModel(pb.GetModelRequest(name="faces")).model

    assert ("triton", f"triton {triton.grpc_address}", "fp32") == (model.backend, model.device, model.precision)


@pytest.mark.parametrize("way", ["deadline", "cancel"])
def test_what_nobody_waits_for_is_not_executed(server, triton, gate, way):
    """A batch that waits at Triton is dropped there when its callers have left or their deadline has passed."""
    with (
        ThreadPoolExecutor(1) as pool,
        server.channel() as channel,
        InferenceServerClient(triton.grpc_address) as client,
    ):

        def executed() -> int:
            (model,) = client.get_inference_statistics("faces.synthesis").model_stats
            return model.inference_count

        def at_triton() -> int:
            return server.call(asyncio_value(lambda: sum(each.outstanding for each in tritons(server))))

        stub, before = pb.StyleGanServiceStub(channel), executed()
        gate.touch()
        first = pool.submit(stub.Generate, request(1), timeout=PATIENCE_SECONDS)
        wait_until_true(lambda: at_triton() == 1)
        second = stub.Generate.future(request(2), timeout=2 if way == "deadline" else PATIENCE_SECONDS)
        wait_until_true(lambda: at_triton() == 2)
        if way == "cancel":
            second.cancel()
        with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
            second.result(PATIENCE_SECONDS)
        wait_until_true(lambda: at_triton() == 1)
        gate.unlink()
        first.result()
        stub.Generate(request(3), timeout=PATIENCE_SECONDS)

        assert before + 2 == executed()


def tritons(server: RunningServer):
    return server.app.engine.remote.servers.values()


async def asyncio_value(read):
    return read()


def wait_until_true(condition) -> None:
    done = threading.Event()
    for _ in range(PATIENCE_SECONDS * 50):
        if condition():
            return
        done.wait(0.02)
    raise AssertionError("waited too long")


def test_shared_memory_changes_no_byte_and_leaves_nothing(models, triton, monkeypatch):
    """Tensors in shared memory and in messages give equal pictures; at the end the memory is gone."""
    monkeypatch.setattr(call, "MIN_SHARED_BYTES", 0)  # even the smallest
    own = f"stylewire-triton-{os.getpid()}-*"
    before = set(SHARED.glob(own))
    found = {}
    for choice in ("auto", "off"):
        with running_server(
            models=models, backend="triton", triton_url=triton.grpc_address, triton_shared_memory=choice
        ) as server:
            found[choice] = pictures(server, *range(8)), len(set(SHARED.glob(own)) - before)

    assert found["auto"][0] == found["off"][0]
    assert found["auto"][1] > 0 == found["off"][1]
    assert before == set(SHARED.glob(own))


def test_memory_of_a_killed_server_is_removed_by_the_next(models, triton):
    """What a killed process leaves behind in shared memory, at Triton too, is gone when the next one has started."""
    first = ServerProcess("--backend", "triton", "--triton-url", triton.grpc_address, models=models)
    first.kill()
    left = {path.name for path in SHARED.glob(f"stylewire-triton-{first.process.pid}-*")}
    with (
        running_server(models=models, backend="triton", triton_url=triton.grpc_address),
        InferenceServerClient(triton.grpc_address) as client,
    ):
        known = set(client.get_system_shared_memory_status().regions)

    assert left
    assert not left & ({path.name for path in SHARED.iterdir()} | known)


def test_triton_without_the_model_is_refused(triton, models, tmp_path):
    """A model that Triton has not ends the start, with the command that makes the repository."""
    shutil.copytree(models, tmp_path / "stranger")
    manifest = tmp_path / "stranger" / "model.json"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace('"name": "faces"', '"name": "stranger"'), encoding="utf-8")

    with (
        pytest.raises(BackendUnavailableError, match=r"stranger\.mapping.*stylewire-export triton-repository"),
        running_server(models=tmp_path, backend="triton", triton_url=triton.grpc_address),
    ):
        pass


def test_triton_with_other_weights_is_refused(faces, triton):
    """A graph of the right name and shapes that computes something else ends the start."""
    with (
        pytest.raises(ManifestError, match=r"faces\.mapping at Triton: w differs from the export"),
        running_server(models=faces[1], backend="triton", triton_url=triton.grpc_address),
    ):
        pass


def test_one_of_two_tritons_dies_under_load_and_no_call_fails(models, triton, repository):
    """A batch whose Triton dies is run by the other one."""
    with running_triton(repository) as other:
        urls = f"{triton.grpc_address},{other.grpc_address}"
        with running_server(models=models, backend="triton", triton_url=urls) as server:
            wait_until_true(lambda: server.call(asyncio_value(lambda: all(each.contracts for each in tritons(server)))))
            with load(server) as running:
                running.wait_for("OK", 20)
                other.kill()
                running.wait_for("OK", 40)
            still_ready = health(server, READY)

    assert {"OK"} == running.codes.keys()
    assert SERVING == still_ready


def test_triton_dies_and_comes_back_under_load(server, triton, models):
    """While Triton is away calls are told to retry and readiness is withdrawn; both are over when it is back."""
    expected = pictures(server, 7)
    with load(server) as running, ThreadPoolExecutor(1) as pool:
        running.wait_for("OK", 10)
        triton.kill()
        running.wait_for("UNAVAILABLE BACKEND_UNAVAILABLE 1.0", CALLERS)
        wait_for_health(server, READY, NOT_SERVING)
        alive = health(server, ALIVE)
        # One more server, that is started while there is no Triton.
        waiting = pool.submit(RunningServer, models=models, backend="triton", triton_url=triton.grpc_address)
        triton.restart()
        wait_for_health(server, READY, SERVING)
        running.wait_for("OK", 10)
        late = waiting.result(PATIENCE_SECONDS)
    try:
        drawn = pictures(late, 7)
    finally:
        late.stop()

    assert SERVING == alive
    assert {"OK", "UNAVAILABLE BACKEND_UNAVAILABLE 1.0"} == running.codes.keys()
    assert [expected] * 2 == [pictures(server, 7), drawn]


def test_server_that_waits_for_triton_can_be_stopped(models, tmp_path):
    """A start that waits says for what, and SIGTERM ends it."""
    arguments = ["--models", str(models), "--port", "0", "--metrics-port", "0"]
    arguments += ["--backend", "triton", "--triton-url", f"127.0.0.1:{free_port()}"]
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen([sys.executable, "-m", "stylewire", "serve", *arguments], stderr=file)
    try:
        wait_until_true(lambda: "waiting for a Triton" in log.read_text(encoding="utf-8"))
        process.send_signal(signal.SIGTERM)

        assert 1 == process.wait(PATIENCE_SECONDS)
        assert "the server is stopping" in log.read_text(encoding="utf-8")
    finally:
        process.kill()
        process.wait()
