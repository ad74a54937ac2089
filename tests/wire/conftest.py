"""The fake server and its client, for the tests of the SDK; other files have servers of their own."""

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
