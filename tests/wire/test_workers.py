"""Several processes on one port: they start, count, and end as one server."""

import os
import signal
import time
from pathlib import Path

import grpc
import pytest

from stylewire import pb
from support.scrape import Scrape
from support.servers import ServerProcess

ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])


@pytest.fixture
def server(small_models):
    """A server of two processes."""
    server = ServerProcess("--workers", "2", models=small_models / "plain")
    yield server
    server.kill()


def workers(server) -> list[int]:
    """The process ids of the workers: children that run a model, unlike multiprocessing's own helper."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def gone(pids, seconds=30) -> bool:
    until = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}/stat").exists() and _state(pid) != "Z" for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _state(pid) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def call(server) -> pb.GenerateResponse:
    """Call over a connection of its own: the kernel gives each to one of the processes."""
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        return pb.StyleGanServiceStub(channel).Generate(ONE, timeout=30)


def test_all_processes_serve_one_port_and_count_together(server):
    """Calls over many connections give the same picture, both processes work, and one endpoint counts all calls."""
    before = {pid: sum(map(int, _times(pid))) for pid in workers(server)}
    pictures = {call(server).images[0].content for _ in range(40)}
    scrape = Scrape(server.metrics_url)

    assert 2 == len(before)
    assert 1 == len(pictures)
    assert 40 == scrape.count("grpc_server_handled_total", grpc_method="Generate", grpc_code="OK")
    assert 40 == scrape.count("stylewire_batch_size_count", graph="synthesis")
    assert 1 == scrape.count("stylewire_model_info", model="plain")
    assert 1 == scrape.count("stylewire_ready")
    assert 0 == scrape.value("stylewire_graph_hung", graph="synthesis")
    assert all(sum(map(int, _times(pid))) > ticks for pid, ticks in before.items())


def _times(pid) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]


def test_sigterm_ends_all_with_exit_code_0(server):
    """One signal to the parent ends every process, in peace."""
    pids = workers(server)
    code, _ = server.stop(signal.SIGTERM)

    assert 0 == code
    assert gone(pids)


def test_process_that_dies_takes_the_others_with_it(server):
    """Half a server is none: the parent ends all with an error, and whoever runs it starts it anew."""
    pids = workers(server)
    os.kill(pids[0], signal.SIGKILL)
    code, log = server.wait()

    assert 1 == code
    assert "exit code -9" in log
    assert gone(pids)


def test_parent_that_is_killed_leaves_no_process_behind(server):
    """Workers end with their parent, however it ended."""
    pids = workers(server)
    server.process.kill()

    assert gone(pids)


def test_port_that_another_server_has_is_refused(server, small_models):
    """A second server does not share the port silently."""
    port = server.address.rpartition(":")[2]
    with pytest.raises(RuntimeError, match=f"cannot listen on 127.0.0.1:{port}"):
        ServerProcess("--workers", "2", "--port", port, models=small_models / "plain")


def test_taken_metrics_port_is_refused(server, small_models):
    """A server whose metrics have no port does not start, and leaves no process behind."""
    port = server.metrics_url.rpartition(":")[2].partition("/")[0]
    with pytest.raises(RuntimeError, match=f"cannot listen on --metrics-port {port}"):
        ServerProcess("--workers", "2", "--metrics-port", port, models=small_models / "plain")


def test_model_that_cannot_be_loaded_ends_all(tmp_path):
    """A server of several processes that cannot start says why, and ends."""
    with pytest.raises(RuntimeError, match="holds no model directory"):
        ServerProcess("--workers", "2", models=tmp_path)
