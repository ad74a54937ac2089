"""Scans the model repository now and then, and lets the lifecycle follow its changes.

A change counts when two scans in a row saw the same: then nobody is copying files any more. A folder that cannot be
read, or holds nothing at all, is an accident and not an order to unload everything.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from stylewire.errors import RetryableError
from stylewire.server.engine.models.lifecycle import Lifecycle
from stylewire.server.engine.models.repository import ModelVersion, Scan

log = logging.getLogger(__name__)


class Watcher:
    """Watches the model repository.

    Args:
        lifecycle: of the models.
        period_seconds: between two scans.
    """

    def __init__(self, lifecycle: Lifecycle, period_seconds: float) -> None:
        self._lifecycle, self._period_seconds = lifecycle, period_seconds
        self._before = {each.directory: each for each in lifecycle.found}
        self._readable = True

    async def run(self) -> None:
        """Scan for ever."""
        while True:
            await asyncio.sleep(self._period_seconds)
            try:
                await self.scan()
            except Exception:  # a watcher that has ended would be missed by nobody
                log.exception("a scan of the models folder failed")

    async def scan(self) -> None:
        """Scan once, and follow what settled since the scan before."""
        found = await asyncio.to_thread(self._try_scan)
        if found is None:
            return
        hidden = {
            path: model_version for path, model_version in self._before.items() if _within(path, found.unreadable)
        }
        model_versions = list(self._settled(found))
        self._before = hidden | {each.directory: each for each in found.model_versions}
        try:
            await self._lifecycle.alone(self._lifecycle.reconcile(model_versions))
        except RetryableError:  # an administrator loads something; the next scan will do
            log.debug("the models folder is scanned again later")

    def _try_scan(self) -> Scan | None:
        why = ""
        try:
            scan = self._lifecycle.repository.scan()
        except OSError as err:
            scan, why = Scan(()), f": {err.strerror}"
        if bool(scan.model_versions) != self._readable:
            self._readable = not self._readable
            if not self._readable:
                log.warning("%s holds no model any more%s; what is loaded stays", self._lifecycle.repository.path, why)
        return scan if scan.model_versions else None

    def _settled(self, scan: Scan) -> Iterator[ModelVersion]:
        """Yield what was found, and what was there before and may come back: gone once is not gone for good."""
        here = {each.directory for each in scan.model_versions}
        names = {each.reference for each in scan.model_versions}
        for model_version in scan.model_versions:
            before = self._before.get(model_version.directory)
            yield replace(model_version, settled=before is not None and before.signature == model_version.signature)
        for directory, model_version in self._before.items():
            if directory not in here and model_version.reference not in names:
                yield replace(model_version, settled=False)


def _within(path: Path, directories: Iterable[Path]) -> bool:
    return any(path == directory or directory in path.parents for directory in directories)
