"""Counts of the messages that a stream's handler reads, or writes by itself."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from prometheus_client import Counter

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


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
