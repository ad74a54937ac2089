"""The backend for Triton without one: what its errors mean, what it accepts, and which server gets a batch."""

import asyncio
import contextlib
import fcntl
import os
import threading
import time
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from stylewire.errors import BackendUnavailableError, DeadlineError, OverloadedError
from stylewire.server.engine.backends import RemoteOptions
from stylewire.server.engine.backends.cancellation import WAITERS
from stylewire.server.engine.backends.triton import shared_memory
from stylewire.server.engine.backends.triton.call import Call
from stylewire.server.engine.backends.triton.contract import Graph, compare_contract
from stylewire.server.engine.backends.triton.errors import judge
from stylewire.server.engine.backends.triton.server_pool import TritonServers
from stylewire.server.engine.backends.triton.shared_memory import Region, SharedMemory
from stylewire.server.engine.batching.batcher import Batcher
from stylewire.server.engine.batching.limits import BatchLimits
from support.fakes import FakeObserver

X = np.arange(4, dtype=np.float32).reshape(2, 2)
GRAPH = Graph(name="faces.mapping", version="", inputs={"z": X}, outputs={"w": 2 * X}, parity=True)
PATIENCE_SECONDS = 30


@pytest.mark.parametrize(
    ("code", "text", "error", "elsewhere", "lost"),
    [
        ("UNAVAILABLE", "Exceeds maximum queue size", OverloadedError, True, False),
        ("UNAVAILABLE", "Request timeout expired", DeadlineError, False, False),
        ("UNAVAILABLE", "failed to connect to all addresses", BackendUnavailableError, True, True),
        ("UNAVAILABLE", "Server is stopping, scheduler for model has stopped", BackendUnavailableError, True, True),
        ("NOT_FOUND", "Request for unknown model: 'x' has no available versions", BackendUnavailableError, True, True),
        ("RESOURCE_EXHAUSTED", "the wait would be 12 s", OverloadedError, True, False),
        ("RESOURCE_EXHAUSTED", "Sent message larger than max", BackendUnavailableError, True, False),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineError, False, False),
        ("CANCELLED", "", BackendUnavailableError, True, True),
        ("INVALID_ARGUMENT", "unexpected shape for input 'z'", BackendUnavailableError, True, False),
        ("INVALID_ARGUMENT", "Unable to find shared memory region: 'x'", BackendUnavailableError, True, False),
        ("INTERNAL", "Failed to process the request(s): /secret/path", BackendUnavailableError, True, False),
        ("UNKNOWN", "", BackendUnavailableError, True, False),
        ("UNAUTHENTICATED", "no token", BackendUnavailableError, True, False),
    ],
)
def test_error_of_triton_has_one_meaning(code, text, error, elsewhere, lost):
    """Each error becomes one of ours, says whether another server may try, and lets none of Triton's text out."""
    failure = judge(InferenceServerException(text, f"StatusCode.{code}"), "faces.mapping", "127.0.0.1:1")

    assert (error, elsewhere, lost) == (type(failure.error), elsewhere, lost)
    assert "faces.mapping" in failure.error.message
    assert not text or text not in failure.error.message
    assert (error is DeadlineError) == (failure.error.retry_after_seconds is None)


def described(**changes) -> tuple[service_pb2.ModelMetadataResponse, model_config_pb2.ModelConfig]:
    tensor = service_pb2.ModelMetadataResponse.TensorMetadata
    known = {"input": "z", "output": "w", "datatype": "FP32", "shape": [-1, 2], "max_batch_size": 8, **changes}
    inputs = [tensor(name=known["input"], datatype=known["datatype"], shape=known["shape"])]
    inputs += [tensor(name=name, datatype="FP32", shape=[-1, 1]) for name in known.get("more", ())]
    outputs = [tensor(name=known["output"], datatype="FP32", shape=[-1, 2])]
    metadata = service_pb2.ModelMetadataResponse(name=GRAPH.name, versions=["1"], inputs=inputs, outputs=outputs)
    groups = [model_config_pb2.ModelInstanceGroup(count=3), model_config_pb2.ModelInstanceGroup(count=2, gpus=[0, 1])]
    config = model_config_pb2.ModelConfig(max_batch_size=known["max_batch_size"], instance_group=groups)
    return metadata, config


@pytest.mark.parametrize("shape", [[-1, 2], [2], [-1, -1]], ids=["batch axis", "no batch axis", "any width"])
def test_model_that_fits_is_accepted(shape):
    """What takes and gives the tensors of the graph is accepted, with its batch size and its instances."""
    contract = compare_contract(GRAPH, *described(shape=shape))

    assert (8, 7, "") == (contract.max_batch_size, contract.instance_count, contract.version)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"input": "x"}, "it has no input z"),
        ({"output": "x"}, "it has no output w"),
        ({"datatype": "FP16"}, "input z is FP16, not FP32"),
        ({"shape": [-1, 3]}, r"input z has the shape \[-1, 3\]"),
        ({"shape": [2], "max_batch_size": 0}, r"input z has the shape \[2\]"),
        ({"shape": [5, 2]}, r"input z has the shape \[5, 2\]"),
        ({"more": ["label"]}, "it wants an input label"),
    ],
)
def test_model_that_does_not_fit_is_refused(changes, told):
    """Another name, type or shape is refused by name, with the command that makes a repository that fits."""
    with pytest.raises(BackendUnavailableError, match=rf"faces\.mapping.*{told}.*stylewire-export triton-repository"):
        compare_contract(GRAPH, *described(**changes))


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Doubles its rows, or answers with an error; says what it was asked.

    Attributes:
        error: code and text of the answer; None for the doubled rows.
        waits: whether it never answers.
        loads: whether it loads another model: it is live then, and not ready as a whole.
        looks: how often it was asked whether it is ready.
        timeouts: the parameter ``timeout`` of the calls.
        cancelled: set when a call was cancelled.
    """

    def __init__(self) -> None:
        self.error: tuple[grpc.StatusCode, str] | None = None
        self.waits = self.loads = False
        self.looks = 0
        self.timeouts: list[int] = []
        self.cancelled = asyncio.Event()

    async def ServerReady(self, request, context):  # noqa: N802
        self.looks += 1
        return service_pb2.ServerReadyResponse(ready=not self.loads)

    async def ServerLive(self, request, context):  # noqa: N802
        return service_pb2.ServerLiveResponse(live=True)

    async def ModelReady(self, request, context):  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request, context):  # noqa: N802
        return described()[0]

    async def ModelConfig(self, request, context):  # noqa: N802
        return service_pb2.ModelConfigResponse(config=described()[1])

    async def SystemSharedMemoryRegister(self, request, context):  # noqa: N802
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Unable to open shared memory region")

    async def ModelInfer(self, request, context):  # noqa: N802
        self.timeouts.append(request.parameters["timeout"].int64_param)
        if self.waits:
            try:
                await asyncio.sleep(PATIENCE_SECONDS)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if self.error:
            await context.abort(*self.error)
        rows = np.frombuffer(request.raw_input_contents[0], np.float32) * 2
        output = service_pb2.ModelInferResponse.InferOutputTensor(
            name="w", datatype="FP32", shape=request.inputs[0].shape
        )
        return service_pb2.ModelInferResponse(
            model_name=request.model_name, outputs=[output], raw_output_contents=[rows.tobytes()]
        )


@contextlib.asynccontextmanager
async def fakes(count: int, **options) -> AsyncIterator[tuple[TritonServers, list[FakeTriton]]]:
    """Some Tritons that have the graph, and the connections to them."""
    tritons, running, addresses = [FakeTriton() for _ in range(count)], [], []
    for each in tritons:
        server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(each, server)
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        running.append(server)
    servers = TritonServers(RemoteOptions(addresses=tuple(addresses), **options))
    servers.start()
    try:
        contracts = await asyncio.to_thread(servers.add, GRAPH)
        assert count == len(contracts)
        for each in tritons:
            each.timeouts.clear()
        yield servers, tritons
    finally:
        await servers.close()
        for server in running:
            await server.stop(0)


def call(deadline_seconds: float | None = None) -> Call:
    return Call(GRAPH, {"z": X}, ("w",), deadline_seconds and time.monotonic() + deadline_seconds)


def run(test) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE_SECONDS))


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL], ids=lambda code: code.name)
def test_batch_that_one_server_refuses_runs_on_another(code):
    """A batch is tried on every server that has the graph before it fails."""

    async def test():
        async with fakes(2) as (servers, tritons):
            tritons[0].error = code, "Exceeds maximum queue size"
            answers = [await servers.infer(call()) for _ in range(3)]

        assert all(np.array_equal(2 * X, answer.arrays["w"]) for answer in answers)

    run(test)


def test_overload_of_all_servers_is_told_with_a_hint():
    """When every queue is full, callers are told to come again soon, not that nothing is there."""

    async def test():
        async with fakes(2) as (servers, tritons):
            for each in tritons:
                each.error = grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"
            with pytest.raises(OverloadedError) as caught:
                await servers.infer(call())
            ready = servers.ready

        assert caught.value.retry_after_seconds
        assert ready

    run(test)


def test_server_that_breaks_off_is_out_until_it_was_looked_at():
    """One lost connection takes a server out at once, and the next look brings it back."""

    async def test():
        async with fakes(1) as (servers, (triton,)):
            triton.error = grpc.StatusCode.UNAVAILABLE, "Socket closed"
            with pytest.raises(BackendUnavailableError):
                await servers.infer(call())
            out = servers.ready
            triton.error = None
            while not servers.ready:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
            answer = await servers.infer(call())

        assert not out
        assert np.array_equal(2 * X, answer.arrays["w"])

    run(test)


def test_server_that_loads_another_model_keeps_what_it_has():
    """Triton is not ready as a whole while it loads anything; the graphs that it has run on."""

    async def test():
        async with fakes(1) as (servers, (triton,)):
            triton.loads, seen = True, triton.looks
            while triton.looks < seen + 2:  # noqa: ASYNC110 - nothing tells; the first may have begun before
                await asyncio.sleep(0.01)
            answer = await servers.infer(call())

        assert np.array_equal(2 * X, answer.arrays["w"])

    run(test)


def test_deadline_travels_and_ends_in_a_cancellation():
    """Triton is told how long an answer makes sense, and is cancelled then; without a deadline it is told nothing."""

    async def test():
        async with fakes(1) as (servers, (triton,)):
            await servers.infer(call())
            triton.waits = True
            with pytest.raises(DeadlineError):
                await servers.infer(call(0.5))
            await triton.cancelled.wait()

        assert triton.timeouts[0] == 0 < triton.timeouts[1] <= 500_000

    run(test)


def test_server_that_hangs_is_given_up():
    """A server that does not answer within our patience counts as away, whatever the callers would wait for."""

    async def test():
        async with fakes(1, patience_seconds=0.5) as (servers, (triton,)):
            triton.waits = True
            with pytest.raises(BackendUnavailableError, match="hangs at Triton"):
                await servers.infer(call())

            assert not servers.ready

    run(test)


class FakeClient:
    """Knows regions by name."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    async def register_system_shared_memory(self, name, key, byte_size, client_timeout=None):
        self.known[name] = byte_size

    async def unregister_system_shared_memory(self, name, client_timeout=None):
        self.known.pop(name, None)


def test_regions_are_used_again_and_removed(tmp_path, monkeypatch):
    """A region that is given back serves the next batch; one that is dropped, and all at the end, are removed."""
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)

    async def test():
        client = FakeClient()
        memory = SharedMemory(client)
        first = await memory.take(1000)
        memory.free(first)
        again = await memory.take(2000)
        other = await memory.take(3000)
        files = {path.name for path in tmp_path.iterdir()}
        await memory.drop(other)
        memory.free(other)  # too late: Triton may write to it
        last = await memory.take(100)
        await memory.close()

        assert first is again
        assert last is not other
        assert {first.name, other.name} == files
        assert ({}, []) == (client.known, list(tmp_path.iterdir()))

    run(test)


def test_memory_of_the_dead_is_swept_and_that_of_the_living_stays(tmp_path, monkeypatch):
    """What nobody has locked any more is removed here and at Triton."""
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)

    async def test():
        client, living, dead = FakeClient(), Region(1), Region(1)
        client.known = {living.name: 1, dead.name: 1}
        fcntl.flock(dead.file, fcntl.LOCK_UN)  # as when its process ends
        os.close(dead.file)
        await SharedMemory(client).sweep()
        left = [path.name for path in tmp_path.iterdir()]
        living.unlink()

        assert ([living.name], [living.name]) == (list(client.known), left)

    run(test)


def test_batch_says_when_nobody_waits_for_it(monkeypatch):
    """A backend learns the last deadline of a batch that runs, and that all of its callers have left."""

    async def test():
        left, started, seen = threading.Event(), threading.Event(), []

        def run_batch(inputs, outputs, *, exclusive):
            waiting = WAITERS.get()
            seen.append(waiting.deadline)
            waiting.on_cancelled(left.set)
            started.set()
            assert left.wait(PATIENCE_SECONDS)
            raise DeadlineError("nobody waits")

        limits = BatchLimits(max_batch_size=4, max_batch_seconds=9, max_queue_seconds=99)
        batcher = Batcher(name="x", run=run_batch, observer=FakeObserver(), limits=limits)
        deadline = time.monotonic() + PATIENCE_SECONDS
        caller = asyncio.create_task(batcher.submit({"x": X}, ("w",), deadline))
        await asyncio.to_thread(started.wait, PATIENCE_SECONDS)
        caller.cancel()
        await asyncio.to_thread(left.wait, PATIENCE_SECONDS)
        await batcher.close()

        assert left.is_set()
        assert [deadline] == seen
        assert WAITERS.get() is None

    run(test)
