"""How backends did with a graph, and the file that has it from one start to the next."""

import json
import logging
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stylewire.server.config.schema import Precision

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measurement:
    """How a candidate did with a graph.

    Attributes:
        backend: its name.
        asked: the precision that it was opened with.
        precision: the arithmetic that it really ran in; empty if it could not be opened.
        rows_per_second: with all of its instances busy; 0 if it was not measured.
        problem: why it is out; empty if it is not.
    """

    backend: str
    asked: Precision
    precision: str = ""
    rows_per_second: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        """Return it as the log has it."""
        return f"{self.backend} {self.precision or self.asked} {self.problem or f'{self.rows_per_second:.3g} rows/s'}"


def default_cache() -> Path:
    """Return the file of measurements, by the rules of freedesktop.org."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stylewire" / "backends.json"


def fastest(measurements: Iterable[Measurement]) -> Measurement | None:
    """Return the measurement of the backend that is used; None if all failed."""
    return max((each for each in measurements if not each.problem), key=lambda each: each.rows_per_second, default=None)


def load_measurements(cache: Path | None, key: str) -> tuple[Measurement, ...]:
    """Load what was measured under a key; nothing where the file is missing, damaged or of another version."""
    try:
        return tuple(Measurement(**each) for each in _read(cache)[key])
    except (KeyError, TypeError):  # not measured yet, or another version's
        return ()


def _read(cache: Path | None) -> dict[str, Any]:
    try:
        known = json.loads(cache.read_text(encoding="utf-8")) if cache else {}
    except (OSError, ValueError):  # not there yet, or damaged: measured again
        return {}
    return known if isinstance(known, dict) else {}


def store_measurements(cache: Path | None, key: str, measurements: tuple[Measurement, ...]) -> None:
    """Add what was measured to the file; where it cannot be written, log that."""
    if cache is None:
        return
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=cache.parent, delete=False) as file:
            json.dump({**_read(cache), key: [asdict(each) for each in measurements]}, file)
        Path(file.name).replace(cache)  # at once: several servers may start together
    except OSError as err:  # a file system that cannot be written to, as in many containers
        log.info("the measurements of backends are not cached: %s", err)
