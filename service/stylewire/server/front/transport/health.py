"""The health service: as grpcio-health-checking has it, but that watchers do not disturb each other, and that it ends.

Its streams would otherwise hold up the end of the server until the grace time is over, and an orchestrator that waits
as long would kill it.
"""

import asyncio
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stylewire.errors import DrainingError

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_Response: TypeAlias = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc_health ships no types
    """Answers Check and Watch for the names that were set."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._stopping = self._closed = False

    async def set(self, name: str, status: int) -> None:
        """Set the state of a name, unless the server is stopping."""
        if not self._stopping:
            self._statuses[name] = status
            self._notify()

    async def enter_graceful_shutdown(self) -> None:
        """Set NOT_SERVING for every name, for good."""
        self._stopping = True
        self._statuses = dict.fromkeys(self._statuses, _Response.NOT_SERVING)
        self._notify()

    def serving(self, name: str) -> bool:
        """Whether a name is SERVING."""
        return bool(self._statuses.get(name) == _Response.SERVING)

    async def close(self) -> None:
        """End the streams of all watchers, who find another server."""
        self._closed = True
        self._notify()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: _Context) -> _Response:  # noqa: N802
        """Return the state of a name."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "nothing of this name is watched here")
        return _Response(status=status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: _Context) -> None:  # noqa: N802
        """Send the state of a name whenever it changes.

        Raises:
            DrainingError: the server ends.
        """
        sent = None
        while True:
            changed = self._changed  # taken before the state is read, so that no change is missed
            status = self._statuses.get(request.service, _Response.SERVICE_UNKNOWN)
            if status != sent:
                await context.write(_Response(status=status))
                sent = status
            if self._closed:
                raise DrainingError("the server is stopping; watch another one")
            await changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
