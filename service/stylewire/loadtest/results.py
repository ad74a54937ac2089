"""The results of calls, and of a step of a load."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

OK = "OK"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """The result of a call.

    Attributes:
        code: name of its gRPC status.
        problem: the server's message.
        images: how many it returned.
        batch_size: see ``BatchInfo``.
        queue_seconds: see ``Timing``, as for the next two.
        inference_seconds: running the networks.
        encoding_seconds: everything about pictures that is no network.
        retry_after_seconds: when a refused caller may retry, by the server.
    """

    code: str = OK
    problem: str = ""
    images: int = 0
    batch_size: int = 0
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0
    encoding_seconds: float = 0.0
    retry_after_seconds: float | None = None


class Sample(NamedTuple):
    """A call that ended.

    Attributes:
        due: when it was to be sent.
        ended: when its result was there.
        result: of the call.
    """

    due: float
    ended: float
    result: CallResult

    @property
    def seconds(self) -> float:
        """How long the caller waited."""
        return self.ended - self.due


class BatchCost(NamedTuple):
    """Answered calls that ran in batches of one size.

    Attributes:
        answers: how many.
        inference_seconds: their mean.
        deviation_seconds: their standard deviation.
    """

    answers: int
    inference_seconds: float
    deviation_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTimes:
    """The means of what the server measured for calls.

    Attributes:
        batch_size: rows that ran together.
        queue_seconds: waiting for the networks.
        inference_seconds: running them.
        encoding_seconds: everything about pictures that is no network.
        batches: the same of the networks, by batch size.
    """

    batch_size: float
    queue_seconds: float
    inference_seconds: float
    encoding_seconds: float
    batches: Mapping[int, BatchCost]

    @classmethod
    def of(cls, results: Sequence[CallResult]) -> Self:
        """Average results; NaN without any."""
        by_size: dict[int, list[float]] = defaultdict(list)
        for each in results:
            by_size[each.batch_size].append(each.inference_seconds)
        return cls(
            batch_size=_mean([each.batch_size for each in results]),
            queue_seconds=_mean([each.queue_seconds for each in results]),
            inference_seconds=_mean([each.inference_seconds for each in results]),
            encoding_seconds=_mean([each.encoding_seconds for each in results]),
            batches={size: _batch_cost(seconds) for size, seconds in sorted(by_size.items())},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The results of one step of a load.

    Attributes:
        callers: of a closed loop; None for an open one.
        offered: images a second that an open loop asked for; None for a closed one.
        seconds: measured.
        codes: status -> calls of the whole step, warm-up and tail included: what the server has counted.
        problems: status -> the server's message of the first such call.
        images: that arrived within the measured seconds.
        latencies: of the measured calls that were answered OK, in seconds, sorted.
        server_times: what the server measured for them.
        client_share: of a core that the client took; near 1 it measured itself.
        late_seconds: p99 of how late an open loop sent its calls; it is part of the latencies.
        complete: whether it was measured to its end.
    """

    callers: int | None
    offered: float | None
    seconds: float
    codes: Mapping[str, int]
    problems: Mapping[str, str]
    images: int
    latencies: Sequence[float] = field(repr=False)
    server_times: ServerTimes
    client_share: float
    late_seconds: float
    complete: bool

    @property
    def images_per_second(self) -> float:
        """Images that arrived, over the measured time."""
        return self.images / self.seconds

    @property
    def mean_seconds(self) -> float:
        """The mean latency; NaN without answered calls."""
        return _mean(self.latencies)

    @property
    def failures(self) -> dict[str, int]:
        """Status -> calls, without those that were answered OK."""
        return {code: count for code, count in self.codes.items() if code != OK}

    def percentile(self, rank: float) -> float:
        """Seconds that ``rank`` percent of the answered calls did not exceed; NaN without any."""
        return percentile(self.latencies, rank)


def percentile(ordered: Sequence[float], rank: float) -> float:
    """Return the smallest of sorted values that ``rank`` percent of them do not exceed; NaN of none."""
    return ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)] if ordered else math.nan


def _batch_cost(seconds: Sequence[float]) -> BatchCost:
    return BatchCost(len(seconds), _mean(seconds), statistics.pstdev(seconds))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
