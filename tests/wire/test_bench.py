import contextlib
import json
import signal
import subprocess
import sys
import threading

import pytest
from typer.testing import CliRunner

from stylewire.cli.main import app
from stylewire.testing.launcher import with_default_signals
from support.fake_service import fake_server
from support.scrape import Scrape
from support.servers import ServerProcess

QUICK = ("--seconds", "0.3", "--warm-up", "0.1", "--connections", "2")


def bench(address, *arguments):
    return CliRunner().invoke(app, ["bench", "--address", address, *QUICK, *arguments], catch_exceptions=False)


def handled(url, method):
    scrape = Scrape(url)
    return {
        code: scrape.count("grpc_server_handled_total", grpc_method=method, grpc_code=code)
        for code in ("OK", "DEADLINE_EXCEEDED")
    }


class Noticing(list):
    """Tells when it has so many items."""

    def __init__(self, count):
        super().__init__()
        self.reached = threading.Event()
        self._count = count

    def append(self, item):
        super().append(item)
        if len(self) >= self._count:
            self.reached.set()


@pytest.fixture(scope="module")
def server():
    """In a process of its own: grpc.aio complains about two event loops in one."""
    process = ServerProcess()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def fake():
    with fake_server() as server:
        yield server


def test_bench_counts_what_the_server_counts(server):
    """Every call that the server has counted is in the report, and each step has its latencies."""
    before = handled(server.metrics_url, "Generate")
    done = bench(server.address, "--concurrency", "1,3", "--batch", "2", "--json")
    told = json.loads(done.stdout)
    after = handled(server.metrics_url, "Generate")
    first, second = told["steps"]

    assert 0 == done.exit_code
    assert after["OK"] - before["OK"] == 1 + first["codes"]["OK"] + second["codes"]["OK"]  # one call before the steps
    assert (1, 3) == (first["callers"], second["callers"])
    assert "avatars" == told["model"]["name"]
    for each in told["steps"]:
        answers = sum(batch["answers"] for batch in each["batches"])
        assert each["complete"]
        assert 0 < each["latency_ms"]["p50"] <= each["latency_ms"]["p99"]
        assert pytest.approx(2 * answers / 0.3, rel=0.02) == each["images_per_second"]
        assert each["inference_ms"] > 0


@pytest.mark.parametrize(("rpc", "method"), [("invert", "Invert"), ("mix", "MixStyles")])
def test_bench_calls_what_it_is_told(server, rpc, method):
    """Inverting needs no file: the model makes a picture for it."""
    before = handled(server.metrics_url, method)
    told = json.loads(bench(server.address, "--rpc", rpc, "--concurrency", "2", "--json").stdout)
    after = handled(server.metrics_url, method)

    assert after["OK"] - before["OK"] == 1 + told["steps"][0]["codes"]["OK"]


def test_bench_tells_how_many_replicas(server):
    """A table, where it is saturated, and a size for the wanted load."""
    done = bench(server.address, "--open", "20", "--rate", "100", "--p99", "5000", "--gpus-per-replica", "1")

    assert 0 == done.exit_code
    assert "offered" in done.stdout
    assert "one for a rolling restart" in done.stdout
    assert "GPUs." in done.stdout


def test_bench_keeps_quiet_about_replicas_that_would_be_too_slow(server):
    """A latency that no step kept is no number of replicas, and exit code 1."""
    done = bench(server.address, "--open", "20", "--rate", "1", "--p99", "0.001")

    assert 1 == done.exit_code
    assert "No step kept a p99 of 0.001 ms" in done.stderr


def test_bench_shows_refusals():
    """Calls that the server refuses are in the table, with what it said, and no size is computed from them."""
    limited = ServerProcess("--max-calls-per-second", "5")
    done = bench(limited.address, "--concurrency", "8", "--rate", "1", "--p99", "5000")
    limited.kill()

    assert 1 == done.exit_code
    assert "RESOURCE_EXHAUSTED" in done.stdout.splitlines()[2]
    assert "RESOURCE_EXHAUSTED: " in done.stdout
    assert "No step kept" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--rate", "5"), "--rate and --p99 belong together"),
        (("--concurrency", "1,x"), "no list of numbers"),
        (("--open", "0"), "not above 0"),
    ],
)
def test_bench_refuses_options_that_make_no_sense(fake, arguments, told):
    """A wrong option is named before anything is called."""
    count = len(fake.requests)
    done = bench(fake.address, *arguments)

    assert 2 == done.exit_code
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert count == len(fake.requests)


def test_bench_says_once_what_no_call_can_do(server):
    """A wrong model is one sentence and no table."""
    done = bench(server.address, "--model", "nobody")

    assert (1, "") == (done.exit_code, done.stdout)
    assert "no model 'nobody'" in done.stderr


def test_bench_prints_what_it_has_when_interrupted(fake, monkeypatch):
    """Ctrl-C ends the step in flight, prints what it gave, and exits with 1."""
    monkeypatch.setattr(fake, "requests", seen := Noticing(50))
    command = [sys.executable, "-m", "stylewire", "bench", "--address", fake.address, "--concurrency", "1", "--json"]
    line = with_default_signals([*command, "--seconds", "600", "--warm-up", "0"])
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert seen.reached.wait(30)
        for _ in range(6):  # one that comes while gRPC's C code runs may be lost
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
                break
        process.kill()
        told = json.loads(process.communicate(timeout=30)[0])

    assert 1 == process.returncode
    assert not told["steps"][0]["complete"]
    assert 40 < told["steps"][0]["codes"]["OK"] <= len(seen)
