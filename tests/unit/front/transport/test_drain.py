"""The end of a drain: who is counted, who is refused, who is waited for."""

import asyncio

import pytest

from stylewire.server.front.transport.drain import Drain, is_work
from stylewire.server.telemetry.metrics import Method

OURS = Method("unary", "stylewire.v1.StyleGanService", "Generate")
INFER = Method("unary", "inference.GRPCInferenceService", "ModelInfer")
HEALTH = Method("unary", "grpc.health.v1.Health", "Check")


async def stay(drain, leave):
    """A call, as the interceptor counts it."""
    drain.calls += 1
    try:
        await leave.wait()
    finally:
        drain.calls -= 1
        drain.ended()


def test_draining_waits_for_the_last_call():
    """Draining ends when the last call in flight has ended, and not before."""

    async def story():
        drain, leave = Drain(), asyncio.Event()
        calls = [asyncio.create_task(stay(drain, leave)) for _ in range(3)]
        await asyncio.sleep(0)
        draining = asyncio.create_task(drain.drain(60))
        await asyncio.wait([draining], timeout=0.3)
        waited = not draining.done()
        leave.set()
        await asyncio.gather(*calls, draining)
        return waited

    assert asyncio.run(story())


def test_health_is_no_work():
    """Calls of both protocols are counted and refused; health is answered all along."""
    assert [True, True, False] == [is_work(method) for method in (OURS, INFER, HEALTH)]


def test_draining_has_a_limit():
    """A call that does not end holds up the drain for the given time only."""

    async def story():
        drain = Drain()
        call = asyncio.create_task(stay(drain, asyncio.Event()))
        await asyncio.sleep(0)
        await drain.drain(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(story())
