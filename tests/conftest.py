"""Fixtures that every folder of tests shares."""

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import hypothesis
import pytest
from typer.testing import CliRunner, Result

from stylewire import pb
from stylewire.cli.main import app
from stylewire.testing import FakeServer
from support import servers
from support.fake_service import fake_server
from support.models import export_random_model
from support.servers import RunningServer, running_server

PROJECT = Path(__file__).parent.parent

# A busy machine is not a failure: what takes long is told by a test of its own.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")


def pytest_addoption(parser):
    parser.addoption("--triton", action="store_true", help="run the graphs of servers in this process on a real Triton")


@pytest.fixture(scope="session", autouse=True)
def graphs_elsewhere(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where graphs run: here, or with ``--triton`` on a Triton that all servers of this process share."""
    if not request.config.getoption("--triton"):
        yield
        return
    from support.triton_models import triton_models  # noqa: PLC0415 - needs the exporter and tritonclient

    with triton_models(tmp_path_factory.mktemp("triton")) as models:
        servers.elsewhere = models.settings
        yield
        servers.elsewhere = None


@pytest.fixture(scope="session")
def golden() -> Path:
    """Checkpoints and outputs of the original implementations; the definition of correct."""
    path = PROJECT.parent / "shared" / "golden" / "public"
    if not path.is_dir():
        pytest.skip("no golden data: ../shared/golden/public is absent on this machine")
    return path


@pytest.fixture(scope="session")
def demo_server() -> Iterator[RunningServer]:
    """A server of the demo models ``avatars`` (the default, with an encoder) and ``pixels``."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four random 32 px models, as ONNX and TorchScript.

    ``plain``; ``twin`` with other weights of the same latent space; ``classes`` with 5 classes; ``rgba`` with alpha.
    """
    out = tmp_path_factory.mktemp("models")
    export_random_model(out, "plain", seed=1, latent_space="shared")
    export_random_model(out, "twin", seed=2, latent_space="shared")
    export_random_model(out, "classes", seed=3, label_dim=5)
    export_random_model(out, "rgba", seed=4, image_channels=4)
    return out


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Three contents of a model named ``faces``: random 32 px models, as ONNX."""
    out = tmp_path_factory.mktemp("faces")
    contents = [export_random_model(out / str(seed), "faces", seed=seed, formats=("onnx",)) for seed in (1, 2, 3)]
    return contents[0], contents[1], contents[2]


@pytest.fixture(scope="session")
def small_server(small_models: Path) -> Iterator[RunningServer]:
    """A server of ``small_models``; the default is ``plain``."""
    with running_server(models=small_models, default_model="plain") as server:
        yield server


@pytest.fixture
def demo(demo_server: RunningServer) -> Iterator[pb.StyleGanServiceStub]:
    """A stub of the demo server."""
    with demo_server.channel() as channel:
        yield pb.StyleGanServiceStub(channel)


@pytest.fixture
def small(small_server: RunningServer) -> Iterator[pb.StyleGanServiceStub]:
    """A stub of the small models' server."""
    with small_server.channel() as channel:
        yield pb.StyleGanServiceStub(channel)


@pytest.fixture
def channel(demo_server: RunningServer) -> Iterator[grpc.Channel]:
    """A channel to the demo server."""
    with demo_server.channel() as channel:
        yield channel


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server without networks, with the models ``a`` (the default) and ``b``."""
    with fake_server() as server:
        yield server


@pytest.fixture
def command(fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command line against the fake server, in an empty folder."""
    monkeypatch.setenv("STYLEWIRE_ADDRESS", fake.address)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, arguments, catch_exceptions=False)


def pytest_terminal_summary(terminalreporter):
    """Print a line a golden case and form, from what ``measure`` noted. Here: xdist reads this conftest only."""
    table: dict[str, dict[str, float]] = {}
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for key, value in report.user_properties:
            if key == "parity" and report.when == "call":
                case_name, _, quantity = value[0].rpartition(" ")
                row = table.setdefault(case_name, {})
                row[quantity] = max(row.get(quantity, 0.0), value[1])
    if table:
        terminalreporter.section("parity with the originals (largest difference / largest magnitude)")
    for case_name, row in sorted(table.items()):
        terminalreporter.line(f"{case_name:42}" + "  ".join(f"{key} {error:.1e}" for key, error in sorted(row.items())))
