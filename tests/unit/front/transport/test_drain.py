"""The gate that calls pass: who is counted, who is refused, who is waited for."""

import asyncio

import pytest

from stylewire.errors import DrainingError
from stylewire.server.front.transport.drain import Gate
from stylewire.server.telemetry.metrics import Method

OURS = Method("unary", "stylewire.v1.StyleGanService", "Generate")
INFER = Method("unary", "inference.GRPCInferenceService", "ModelInfer")
HEALTH = Method("unary", "grpc.health.v1.Health", "Check")


async def stay(gate, leave, method=OURS):
    with gate.passed(method):
        await leave.wait()


def test_closing_waits_for_the_last_call():
    """The gate is closed when the last call under way has ended, and not before."""

    async def story():
        gate, leave = Gate(), asyncio.Event()
        calls = [asyncio.create_task(stay(gate, leave)) for _ in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(gate.close(60))
        await asyncio.wait([closing], timeout=0.3)
        waited = not closing.done()
        leave.set()
        await asyncio.gather(*calls, closing)
        return waited

    assert asyncio.run(story())


def test_closed_gate_refuses_calls_but_not_health():
    """From the first moment of closing calls get DrainingError; health is still told."""

    async def story():
        gate = Gate()
        closing = asyncio.create_task(gate.close(60))
        await asyncio.sleep(0)
        with gate.passed(HEALTH):
            calls = [stay(gate, asyncio.Event(), method) for method in (OURS, INFER)]
            refused = await asyncio.gather(*calls, return_exceptions=True)
        await closing
        return refused

    assert [DrainingError] * 2 == [type(each) for each in asyncio.run(story())]


def test_closing_has_a_limit():
    """A call that does not end holds up the closing for the given time only."""

    async def story():
        gate = Gate()
        call = asyncio.create_task(stay(gate, asyncio.Event()))
        await asyncio.sleep(0)
        await gate.close(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(story())
