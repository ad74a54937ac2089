"""What is written down of a call: the line that the log gets, and the number of its messages."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from prometheus_client import Counter

from stylewire.server.context import RequestContext
from stylewire.server.telemetry.logs import Fields

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_CHARACTERS = 64


def log_line(call: RequestContext, method: str, code: grpc.StatusCode, seconds: float) -> Fields:
    """Make the line of a call that ended. Nothing of its content is in it, and no metadata."""
    sent = call.sent
    return Fields(
        request_id=call.request_id,
        peer=call.peer,
        client=_printable(call.client) or "-",
        method=method,
        model=_printable(call.model) or "-",
        code=code.name,
        total_ms=round(seconds * 1e3, 1),
        queue_ms=round(sent.queue_seconds * 1e3, 1),
        inference_ms=round(sent.inference_seconds * 1e3, 1),
        encoding_ms=round(sent.encoding_seconds * 1e3, 1),
        batch=sent.batch_size,
        **({"trace_id": call.trace.trace_id} if call.trace else {}),
    )


async def count_messages(messages: AsyncIterator[Any], counter: Counter) -> AsyncIterator[Any]:
    """Pass messages on, and count them."""
    async for message in messages:
        counter.inc()
        yield message


class CountingContext:
    """The context of a call, for a handler that writes by itself, as that of health does.

    Args:
        context: has everything else that a context has.
        counter: of the messages written.
    """

    def __init__(self, context: _Context, counter: Counter) -> None:
        self._context, self._counter = context, counter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        """Write a message, and count it."""
        await self._context.write(message)
        self._counter.inc()


def _printable(text: str | None) -> str:
    """Write what a caller named so that it cannot begin a line of its own."""
    return (text or "")[:_CHARACTERS].encode("unicode_escape").decode()
