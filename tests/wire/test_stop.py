"""How a server ends: nothing that was accepted is lost, and a person who insists need not wait."""

import itertools
import signal

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stylewire import pb
from support.refusals import failure
from support.scrape import wait_for
from support.servers import ServerProcess

LONG_SECONDS = "600"  # no test waits for it
ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])


@pytest.fixture
def started(small_models):
    """Start a server of one small model; it is killed if the test does not end it."""
    processes = []

    def start(*arguments):
        processes.append(ServerProcess(*arguments, models=small_models / "plain"))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


def watch_until_not_serving(channel):
    """Return when the server has begun to stop; the stream is open before this function is called."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

    def wait():
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING

    return wait


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_calls_in_flight_are_finished(started, number):
    """A signal with forty calls and a stream in flight loses none of them, and the exit code is 0."""
    server = started()
    with grpc.insecure_channel(server.address) as channel:
        stub = pb.StyleGanServiceStub(channel)
        large = pb.GenerateRequest(latents=[pb.Latent(seed=seed) for seed in range(64)])
        walk = pb.InterpolateRequest(keyframes=large.latents[:2], frame_count=300)
        calls = [stub.Generate.future(large) for _ in range(40)]
        stream = stub.Interpolate(walk)
        wait_for(server.metrics_url, lambda s: s.count("grpc_server_started_total") == 41)
        server.process.send_signal(number)
        replies = [call.result(60) for call in calls]
        frames = list(stream)
    code, log = server.wait()

    assert [64] * 40 == [len(reply.images) for reply in replies]
    assert 300 == len(frames)
    assert 0 == code, log
    assert "Traceback" not in log


def test_draining_server_serves_on(started):
    """Between SIGTERM and the end of the drain time the server says NOT_SERVING and answers every call."""
    server = started("--drain-seconds", LONG_SECONDS)
    with grpc.insecure_channel(server.address) as channel:
        stub = pb.StyleGanServiceStub(channel)
        told = watch_until_not_serving(channel)
        server.process.send_signal(signal.SIGTERM)
        told()

        assert 1 == len(stub.Generate(ONE).images)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_at_once(started, second):
    """A second signal does not wait for the drain, and the exit code tells which it was."""
    server = started("--drain-seconds", LONG_SECONDS)
    with grpc.insecure_channel(server.address) as channel:
        told = watch_until_not_serving(channel)
        server.process.send_signal(signal.SIGTERM)
        told()
        code, _ = server.stop(second)

    assert 128 + second == code


def test_interrupt_skips_the_drain(started):
    """Ctrl-C stops without the drain time: nobody balances load to a terminal."""
    code, log = started("--drain-seconds", LONG_SECONDS).stop(signal.SIGINT)

    assert 0 == code, log
    assert "draining for 0 s" in log


def test_grace_bounds_the_wait_for_a_slow_reader(started):
    """A stream that nobody reads does not keep the server alive longer than the grace time."""
    server = started("--grace-seconds", "0.2")
    window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]
    with grpc.insecure_channel(server.address, window) as channel:
        tensor = pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR)
        walk = pb.InterpolateRequest(keyframes=[pb.Latent(seed=1)] * 2, frame_count=3600, output_config=tensor)
        stream = pb.StyleGanServiceStub(channel).Interpolate(walk)
        assert 2 == len(list(itertools.islice(stream, 2)))
        code, log = server.stop(signal.SIGTERM)
        with pytest.raises(grpc.RpcError):
            list(stream)

    assert 0 == code, log
    assert "Traceback" not in log


def test_watcher_does_not_hold_up_the_end(started):
    """A stream of health that stays open is ended with UNAVAILABLE: the grace time is for work."""
    server = started("--grace-seconds", LONG_SECONDS)
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        told = []
        with pytest.raises(grpc.RpcError) as caught:
            told.extend(each.status for each in watch)
        code, log = server.wait()

    # Without a drain the message and the end follow at once, and gRPC's client drops what it has not read by the end.
    assert told in ([], [health_pb2.HealthCheckResponse.NOT_SERVING])
    assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
    assert 0 == code, log


def test_new_calls_are_refused_after_the_drain(started):
    """When the server has stopped accepting, a new connection finds nobody."""
    server = started()
    code, _ = server.stop(signal.SIGTERM)
    with grpc.insecure_channel(server.address) as channel:
        caught = failure(pb.StyleGanServiceStub(channel).Generate, ONE)

    assert 0 == code
    assert grpc.StatusCode.UNAVAILABLE == caught.code()
