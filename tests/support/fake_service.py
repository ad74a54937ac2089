"""The public fake server with two models, as the tests of the client want them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from stylewire import AsyncClient, pb, testing
from stylewire.testing import DIGEST, FakeServer

__all__ = ["DIGEST", "asked", "fake_server", "model"]

RUNTIMES = [
    pb.Model.Runtime(graph="synthesis", backend="openvino", problem="openvino is not here"),
    pb.Model.Runtime(graph="synthesis", backend="ncnn", precision="fp32", chosen=True, rows_per_second=12.34),
]


def model(name, **fields):
    return testing.model(name, **{"runtimes": RUNTIMES, **fields})


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    with FakeServer(models=[model("a", default_model=True), model("b")]) as fake:
        yield fake


def asked(server, ask):
    """Make one call with an AsyncClient."""

    async def call():
        async with AsyncClient(server.address) as client:
            return await ask(client)

    return asyncio.run(call())
