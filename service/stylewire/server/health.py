"""The health service, with a correction of what grpcio-health-checking does when one of several watchers leaves."""

from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class HealthServicer(health.aio.HealthServicer):  # type: ignore[misc]  # grpc_health ships no types
    """Answers Check and Watch for the names that were set."""

    def serving(self, name: str) -> bool:
        """Whether a name is SERVING."""
        return bool(self._server_status.get(name) == health_pb2.HealthCheckResponse.SERVING)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: _Context) -> None:  # noqa: N802
        """Tell a caller the state of a name whenever it changes."""
        # When a watcher leaves, grpcio forgets the condition that the others wait for: they would never hear again.
        condition = self._server_watchers[request.service]
        try:
            await super().Watch(request, context)
        finally:
            if request.service in self._server_status:
                self._server_watchers[request.service] = condition
