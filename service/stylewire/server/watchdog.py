"""Looks about once a second for what changes by itself: batches that hang, readiness, tokens."""

import asyncio
import logging
from collections.abc import Iterator

from grpc_health.v1 import health, health_pb2

from stylewire import pb
from stylewire.server.engine.local_engine import LocalEngine
from stylewire.server.front.auth.access import Access
from stylewire.server.front.transport.health import HealthServicer
from stylewire.server.telemetry.collectors import GraphHealth
from stylewire.server.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

ALIVE = health.OVERALL_HEALTH
"""The name that says whether the process is worth keeping."""
READY = pb.STYLEGAN_SERVICE
"""The name that says whether the server answers calls."""
_PERIOD_SECONDS = 1.0
_STATUS = health_pb2.HealthCheckResponse


class Watchdog:
    """Keeps health true.

    While a batch hangs health is NOT_SERVING, so that the process is restarted (liveness) or passed over.

    Args:
        engine: whose graphs may hang.
        health: that is kept true.
        access: whose tokens are read again when their file changes.
        metrics: shows how late the event loop is.
        hang_seconds: run time after which a batch hangs.
    """

    def __init__(
        self, engine: LocalEngine, health: HealthServicer, access: Access, metrics: Metrics, hang_seconds: float
    ) -> None:
        self._engine, self._health, self._access, self._metrics = engine, health, access, metrics
        self._hang_seconds = hang_seconds
        self._hung: list[str] = []

    @property
    def alive(self) -> bool:
        """Whether the process is worth keeping."""
        return not self._hung

    def graph_health(self) -> list[GraphHealth]:
        """Return which graphs hang; versions of a model count as one. Called from the thread of a scrape."""
        hangs: dict[tuple[str, str], bool] = {}
        for model in self._engine.catalog.models:
            for graph in model.info.graphs:
                key = model.info.name, graph
                hangs[key] = hangs.get(key, False) or f"{model.info.reference}.{graph}" in self._hung
        return [GraphHealth(name, graph, hung) for (name, graph), hung in hangs.items()]

    async def run(self) -> None:
        """Look for ever; the server is ready when this begins."""
        period = min(_PERIOD_SECONDS, self._hang_seconds / 2)
        clock, was_ready = asyncio.get_running_loop().time, True
        while True:
            due = clock() + period
            await asyncio.sleep(period)
            self._access.refresh()
            self._metrics.loop_lag.observe(max(0.0, clock() - due))
            hung, ready = self._engine.hung_graphs(self._hang_seconds), self._engine.ready
            if hung != self._hung:
                log.error("graphs that hang: %s", ", ".join(hung) or "none any more")
            if (hung, ready) != (self._hung, was_ready):
                self._hung, was_ready = hung, ready
                for name, status in self._statuses(ready=ready):
                    await self._health.set(name, status)

    def _statuses(self, *, ready: bool) -> Iterator[tuple[str, int]]:
        yield ALIVE, _STATUS.SERVING if self.alive else _STATUS.NOT_SERVING
        yield READY, _STATUS.SERVING if ready and self.alive else _STATUS.NOT_SERVING
