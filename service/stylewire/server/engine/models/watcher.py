"""Looks at the models folder now and then, and has the models made what it says.

A change counts when two looks in a row saw the same: then nobody is copying files any more. A folder that cannot be
read, or holds nothing at all, is an accident and not an order to unload everything.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from stylewire.errors import RetryableError
from stylewire.server.engine.models.lifecycle import Lifecycle
from stylewire.server.engine.models.repository import Entry, Look

log = logging.getLogger(__name__)


class Watcher:
    """Watches the models folder.

    Args:
        lifecycle: of the models.
        period_seconds: between two looks.
    """

    def __init__(self, lifecycle: Lifecycle, period_seconds: float) -> None:
        self._lifecycle, self._period_seconds = lifecycle, period_seconds
        self._before = {entry.directory: entry for entry in lifecycle.found}
        self._readable = True

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(self._period_seconds)
            try:
                await self.look()
            except Exception:  # a watcher that has ended would be missed by nobody
                log.exception("a look at the models folder failed")

    async def look(self) -> None:
        """Look once, and follow what settled since the look before."""
        found = await asyncio.to_thread(self._try_look)
        if found is None:
            return
        hidden = {path: entry for path, entry in self._before.items() if _within(path, found.unreadable)}
        entries = list(self._settled(found))
        self._before = hidden | {entry.directory: entry for entry in found.entries}
        try:
            await self._lifecycle.alone(self._lifecycle.settle(entries))
        except RetryableError:  # an administrator loads something; the next look will do
            log.debug("the models folder is looked at again later")

    def _try_look(self) -> Look | None:
        why = ""
        try:
            look = self._lifecycle.folder.look()
        except OSError as err:
            look, why = Look(()), f": {err.strerror}"
        if bool(look.entries) != self._readable:
            self._readable = not self._readable
            if not self._readable:
                log.warning("%s holds no model any more%s; what is loaded stays", self._lifecycle.folder.path, why)
        return look if look.entries else None

    def _settled(self, look: Look) -> Iterator[Entry]:
        """Give what was found, and what was there before and may come back: gone once is not gone for good."""
        here = {entry.directory for entry in look.entries}
        names = {entry.reference for entry in look.entries}
        for entry in look.entries:
            before = self._before.get(entry.directory)
            yield replace(entry, settled=before is not None and before.signature == entry.signature)
        for directory, entry in self._before.items():
            if directory not in here and entry.reference not in names:
                yield replace(entry, settled=False)


def _within(path: Path, directories: Iterable[Path]) -> bool:
    return any(path == directory or directory in path.parents for directory in directories)
