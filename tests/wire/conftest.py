"""The fake server and its client, for the tests of the SDK; and what tests of tracing and of Triton's clients share."""

import pytest

from stylewire import Client
from support.fake_service import fake_server


@pytest.fixture
def server():
    with fake_server() as fake:
        yield fake


@pytest.fixture
def client(server):
    with Client(server.address) as open_client:
        yield open_client


@pytest.fixture(scope="module")
def prompt_export():
    """Spans are sent after 20 ms, not after 5 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        yield


@pytest.fixture
def other():
    """A collector for a server that a test starts."""
    from support.collector import collecting  # noqa: PLC0415 - OpenTelemetry, for the tests that want it

    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def triton(demo_server):
    """A client of Triton that speaks to the demo server."""
    import tritonclient.grpc  # noqa: PLC0415 - for the tests that want it

    with tritonclient.grpc.InferenceServerClient(demo_server.address) as client:
        yield client
