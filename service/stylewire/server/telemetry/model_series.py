"""Label sets that come and go with models. Several models may show the same one: it goes with the last of them."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

M = TypeVar("M", bound=MetricWrapperBase)
Uses: TypeAlias = Counter[tuple[MetricWrapperBase, tuple[str, ...]]]
"""How many models show each label set."""


class ModelSeries:
    """The label sets that one model shows; touch it on the event loop only.

    Args:
        uses: of all models of a server.
    """

    def __init__(self, uses: Uses) -> None:
        self._uses = uses
        self._taken: set[tuple[MetricWrapperBase, tuple[str, ...]]] = set()

    def labels(self, metric: M, *values: str) -> M:
        """Return the child of a metric with these labels, shown until ``close``; its counts of other models stay."""
        key = metric, values
        if key not in self._taken:
            self._taken.add(key)
            self._uses[key] += 1
        return metric.labels(*values)

    def close(self) -> None:
        """Stop to show the label sets that no other model shows."""
        for key in self._taken:
            self._uses[key] -= 1
            if not self._uses[key]:
                del self._uses[key]
                metric, values = key
                metric.remove(*values)
        self._taken.clear()


class StateCollector(Collector):
    """Counts the models in each state at each scrape: a version that is reloaded is in two at once.

    Args:
        states: returns name, version and state of every model, in any order.
        known: all states that there are.
    """

    def __init__(self, states: Callable[[], Iterable[tuple[str, str, str]]], known: Iterable[str]) -> None:
        self._states, self._known = states, tuple(known)

    def collect(self) -> Iterable[Metric]:
        """Yield the counts, 0 for the states that a model is not in."""
        counts = Counter(self._states())
        family = GaugeMetricFamily("stylewire_model_state", "Models in a state.", labels=("model", "version", "state"))
        for name, version in sorted({(name, version) for name, version, _ in counts}):
            for state in self._known:
                family.add_metric((name, version, state), counts[name, version, state])
        yield family
