"""What the server really exports: metrics with their labels, as a server with the demo models collects them."""

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

from prometheus_client import Metric

from stylewire.server.app import App
from stylewire.server.config.settings import Settings
from stylewire.server.telemetry.gpu import GpuCollector

TARGET_LABELS = frozenset({"namespace", "pod", "container", "endpoint", "job", "instance"})
"""Labels that Prometheus adds to what it reads from a pod."""
_METRIC = re.compile(r"(?<![\w:.$])([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(?!\s*[\w:(])")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_CLAUSE = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NOISE = re.compile(r'"[^"]*"|\[[^\]]*\]|#.*')
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "by", "on", "without", "ignoring"})


class _Gpu:
    """NVIDIA's library as far as the names of the metrics need it."""

    NVMLError = RuntimeError

    def nvmlDeviceGetMemoryInfo(self, _: Any) -> SimpleNamespace:  # noqa: N802 - NVIDIA's names
        return SimpleNamespace(used=0, total=1)

    def nvmlDeviceGetUtilizationRates(self, _: Any) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=0)


@cache
def exported() -> Mapping[str, frozenset[str]]:
    """Name -> labels of every series of a server, one with a GPU included."""
    return asyncio.run(_collect())


async def _collect() -> Mapping[str, frozenset[str]]:
    app = App(Settings(port=0, metrics_port=0, backend="onnxruntime", threads=1, drain_seconds=0))
    await app.start()
    try:
        gpu = GpuCollector("cuda:0", _Gpu(), None)  # type: ignore[arg-type]  # what collect() uses of it
        return dict(_labels([*app.metrics.registry.collect(), *gpu.collect()]))
    finally:
        await app.stop(0)


def _labels(families: Iterable[Metric]) -> Iterator[tuple[str, frozenset[str]]]:
    for family in families:
        for sample in family.samples:
            yield sample.name, frozenset(sample.labels)


def query_problems(expression: str, known: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Say which metrics of a PromQL expression do not exist, and which of their labels.

    Args:
        expression: PromQL.
        known: name -> labels.
    """
    plain = _NOISE.sub(lambda found: '""' if found[0].startswith('"') else "", expression)
    plain = _CLAUSE.sub(" ", plain)
    for name, selector in _METRIC.findall(plain):
        if name in _WORDS or not re.search("[_:]", name):
            continue
        if name not in known:
            yield f"no metric {name}"
            continue
        for label in _LABEL.findall(selector):
            if label not in known[name] | TARGET_LABELS:
                yield f"{name} has no label {label}"
