"""What goes wrong around a server: its backend, its clients, its disk, its clock, its file descriptors."""

import contextlib
import itertools
import os
import resource
import signal
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stylewire import pb
from stylewire.demo import MODELS
from stylewire.errors import InternalError
from stylewire.status import from_rpc_error
from support import bad_clients
from support.gates import replaced
from support.pictures import worst_difference
from support.scrape import wait_for
from support.servers import ServerProcess, running_server

ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])
CONNECTIONS, RESETS = 1000, 1000
HOUR_SECONDS = 3600
FAKETIME = [Path(f"/usr/lib/{machine}-linux-gnu/faketime/libfaketime.so.1") for machine in ("x86_64", "aarch64")]


@pytest.fixture
def started():
    """Start a server of one demo model; it is killed if the test does not end it."""
    with contextlib.ExitStack() as cleanup:

        def start(*arguments, **options):
            server = ServerProcess(*arguments, models=MODELS / "pixels", **options)
            cleanup.callback(server.kill)
            return server

        yield start


def generate(server, request=ONE):
    """Call over a connection of its own."""
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        return pb.StyleGanServiceStub(channel).Generate(request, timeout=30, wait_for_ready=True)


def descriptors(server) -> int:
    return sum(1 for _ in Path(f"/proc/{server.process.pid}/fd").iterdir())


def reaches(reading, least, seconds=30) -> bool:
    """Tell whether a reading comes down to a level in time."""
    until = time.monotonic() + seconds
    while reading() > least:
        if time.monotonic() > until:
            return False
    return True


# --- its backend -----------------------------------------------------------------------------------------------------


def failing(run):
    """Every other batch fails, each time in another way."""
    numbers = itertools.count()

    def no_rows(inputs, outputs):
        return {name: array[:0] for name, array in run(inputs, outputs, exclusive=False).items()}

    def nothing(inputs, outputs):
        return {}

    def bug(inputs, outputs):
        raise RuntimeError("bug")

    def memory(inputs, outputs):
        raise MemoryError

    faults = itertools.cycle([no_rows, nothing, bug, memory])

    def chaos(inputs, outputs, *, exclusive):
        return next(faults)(inputs, outputs) if next(numbers) % 2 else run(inputs, outputs, exclusive=exclusive)

    return chaos


def test_backend_that_fails_now_and_then_hurts_nobody_else():
    """Calls of failed batches get INTERNAL, all others their own pictures, and afterwards the server is as before."""
    requests = [pb.GenerateRequest(latents=[pb.Latent(seed=seed)]) for seed in range(40)]
    walk = pb.InterpolateRequest(keyframes=[pb.Latent(seed=1), pb.Latent(seed=2)], frame_count=4)
    with running_server(models=MODELS / "pixels") as server, server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        wanted = [stub.Generate(request).images for request in requests]
        with replaced(server, "synthesis", failing):
            streams = [stub.Interpolate(walk) for _ in range(4)]
            calls = [stub.Generate.future(request) for request in requests]
            failures = [call.exception() for call in calls]
            failures += [_failure(stream) for stream in streams]
        right = [
            (call.result().images, images) for call, images in zip(calls, wanted, strict=True) if call.code() is OK
        ]
        again = [stub.Generate(request).images for request in requests]

    assert {InternalError, None} == {failure and type(from_rpc_error(failure)) for failure in failures}
    assert 1 >= max(worst_difference(made, images) for made, images in right)
    assert 1 >= max(worst_difference(made, images) for made, images in zip(again, wanted, strict=True))


OK = grpc.StatusCode.OK


def _failure(stream):
    try:
        list(stream)
    except grpc.RpcError as err:
        return err
    return None


# --- its clients -----------------------------------------------------------------------------------------------------


def test_clients_that_break_off_leave_nothing_behind(started):
    """A thousand connections, each left at some point of the protocol, and a thousand calls that are reset at once.

    They cost no descriptor, every call has an end, and the server answers others meanwhile.
    """
    server = started()
    generate(server)
    before = descriptors(server)
    with bad_clients.connect(server.address) as connection:  # these calls are calls, if they have the time
        connection.sendall(bad_clients.BEGINNINGS["a call whose answer nobody takes"])
        wait_for(server.metrics_url, lambda s: s.count("grpc_server_started_total", grpc_method="Generate") == 2)
    beginnings = itertools.cycle(bad_clients.BEGINNINGS.values())
    for number, beginning in zip(range(CONNECTIONS), beginnings, strict=False):
        bad_clients.break_off(server.address, beginning, rudely=number % 2 == 0)
    bad_clients.open_and_reset(server.address, RESETS)

    assert 1 == len(generate(server).images)
    wait_for(server.metrics_url, _all_calls_have_ended)
    assert reaches(lambda: descriptors(server), before)
    code, log = server.stop(signal.SIGTERM)
    assert 0 == code, log
    assert "Traceback" not in log, log


def _all_calls_have_ended(scrape) -> bool:
    return scrape.count("grpc_server_started_total") == scrape.count("grpc_server_handled_total")


def test_server_without_descriptors_recovers(started):
    """When connections have taken the last descriptor, those that are there are served, and later ones again."""
    server = started()
    with grpc.insecure_channel(server.address) as channel:
        stub = pb.StyleGanServiceStub(channel)
        stub.Generate(ONE)
        limit = descriptors(server) + 10
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
        with contextlib.ExitStack() as clients:
            for _ in range(40):
                clients.enter_context(bad_clients.connect(server.address))
            full = reaches(lambda: -descriptors(server), -limit)
            while_full = stub.Generate(ONE, timeout=30)
        answer = generate(server)
    code, log = server.stop(signal.SIGTERM)

    assert full
    assert [1, 1] == [len(while_full.images), len(answer.images)]
    assert 0 == code, log


# --- its disk --------------------------------------------------------------------------------------------------------


def test_server_whose_log_disk_is_full_serves_on(started):
    """Log lines that cannot be written are lost, and nothing else is."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        server = started(stderr=full)
        pictures = [len(generate(server).images) for _ in range(20)]
        server.process.send_signal(signal.SIGTERM)

        assert [1] * 20 == pictures
        assert 0 == server.process.wait(30)


def test_server_that_cannot_announce_itself_serves_on(started):
    """The line that says where it serves is for people and scripts: without it the log has the address."""
    reader, writer = os.pipe()
    os.close(reader)
    server = started(stdout=writer)
    os.close(writer)
    answer = generate(server)
    code, log = server.stop(signal.SIGTERM)

    assert 1 == len(answer.images)
    assert 0 == code, log
    assert "Traceback" not in log, log


# --- its clock -------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(tmp_path):
    """A wall clock for a process: the environment to start it in, and a function that makes it jump."""
    library = next((path for path in FAKETIME if path.exists()), None)
    if library is None:
        pytest.skip("no libfaketime, which makes the clock of a process jump: it is in Debian's libfaketime")
    offset = tmp_path / "offset"
    offset.write_text("+0")
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return environment, offset.write_text


def test_clock_that_jumps_changes_nothing(started, clock):
    """Hours forward or back, with a stream and a deadline in flight: no call ends early, nothing counts as hung."""
    environment, jump = clock
    server = started("--hang-seconds", "5", environment=environment)
    walk = pb.InterpolateRequest(keyframes=[pb.Latent(seed=1), pb.Latent(seed=2)], frame_count=60)
    with grpc.insecure_channel(server.address) as channel:
        stub, health = pb.StyleGanServiceStub(channel), health_pb2_grpc.HealthStub(channel)
        frames = stub.Interpolate(walk, timeout=60)
        first = next(frames)
        made, states = [], []
        for offset in ("+5h", "-5h", "+0"):
            jump(offset)
            made += [len(stub.Generate(ONE, timeout=30).images) for _ in range(3)]
            states.append(health.Check(health_pb2.HealthCheckRequest()).status)
        rest = list(frames)
    scrape = wait_for(server.metrics_url, _all_calls_have_ended)
    code, log = server.stop(signal.SIGTERM)
    hours = {line[:13] for line in log.splitlines() if "method=Generate" in line}

    assert len(hours) > 2, "the clock did not jump"
    assert [1] * 9 == made
    assert [health_pb2.HealthCheckResponse.SERVING] * 3 == states
    assert walk.frame_count == len([first, *rest])
    assert 0 <= scrape.count("stylewire_queue_seconds_sum") < HOUR_SECONDS
    assert 0 <= scrape.count("stylewire_batch_run_seconds_sum") < HOUR_SECONDS
    assert 0 == code, log
