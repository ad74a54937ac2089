"""Load without gRPC: a call is any coroutine that returns a ``CallResult``.

``closed_loop`` is a number of callers who wait for their answers before they call again: it finds the most that a
service can do, and never asks for more. ``open_loop`` calls at random moments at a fixed rate, whatever became of the
calls before, and counts from the moment at which a call was due: what people see who do not wait for one another. A
closed loop stops asking while the service stalls, and so leaves out of its percentiles those whom the stall would have
hit (coordinated omission).
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from stylewire.loadtest.results import OK, CallResult, Sample, ServerTimes, Step, percentile

Call: TypeAlias = Callable[[int], Awaitable[CallResult]]
"""Makes the call with this number."""
_PAUSE_SECONDS = 0.1
"""Pause of a refused caller where the server names no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The times of a step.

    Attributes:
        warm_up_seconds: left out of the measurement.
        seconds: measured.
        tail_seconds: for how long, at most, an open loop goes on calling while measured calls have no result.
    """

    warm_up_seconds: float
    seconds: float
    tail_seconds: float


class Recorder:
    """Sends the calls of one step and records their results. Make it when the step begins.

    A closed loop counts the calls that ended in the measured time, an open loop those that were due in it: of a service
    that is overrun, the worst ones end later.

    Args:
        call: makes a call.
        window: the times of the step.
        callers: of a closed loop.
        offered: images a second of an open loop.
        first: number of the first call.

    Attributes:
        sent: calls.
        stop: end of the measurement, on the loop's clock.
    """

    def __init__(
        self, call: Call, window: Window, *, callers: int | None = None, offered: float | None = None, first: int = 0
    ) -> None:
        self._call, self._first = call, first
        self._callers, self._offered = callers, offered
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time() + window.warm_up_seconds
        self.sent, self.stop = 0, self._start + window.seconds
        self._samples: list[Sample] = []
        self._codes = Counter[str]()
        self._problems: dict[str, str] = {}
        self._late: list[float] = []
        self._measured_open = 0
        self._cpu = [0.0, 0.0]
        for index, moment in enumerate((self._start, self.stop)):
            self._loop.call_at(moment, self._read_cpu, index)

    @property
    def waits(self) -> bool:
        """Whether a call that was due in the measured time has no result yet."""
        return self._measured_open > 0

    async def send(self, due: float) -> CallResult:
        """Make a call that was due at a moment on the loop's clock, and record its result."""
        number, self.sent = self._first + self.sent, self.sent + 1
        measured = self._start <= due < self.stop
        if measured:
            self._late.append(self._loop.time() - due)
            self._measured_open += 1
        try:
            result = await self._call(number)
        finally:
            self._measured_open -= measured
        self._codes[result.code] += 1
        if result.code != OK:
            self._problems.setdefault(result.code, result.problem)
        self._samples.append(Sample(due, self._loop.time(), result))
        return result

    def step(self) -> Step | None:
        """Sum up the results so far; None before the measurement has begun."""
        stop = min(self.stop, self._loop.time())
        if stop <= self._start:
            return None
        answered = [each for each in self._samples if each.result.code == OK]
        ended = [each for each in answered if self._start <= each.ended < stop]
        counted = ended if self._offered is None else [each for each in answered if self._start <= each.due < stop]
        complete = stop == self.stop and not self.waits
        return Step(
            callers=self._callers,
            offered=self._offered,
            seconds=stop - self._start,
            codes=dict(self._codes),
            problems=dict(self._problems),
            images=sum(each.result.images for each in ended),
            latencies=sorted(each.seconds for each in counted),
            server_times=ServerTimes.of([each.result for each in counted]),
            client_share=(self._cpu[1] - self._cpu[0]) / (self.stop - self._start) if complete else 0.0,
            late_seconds=0.0 if self._offered is None else percentile(sorted(self._late), 99),
            complete=complete,
        )

    def _read_cpu(self, index: int) -> None:
        self._cpu[index] = time.process_time()


async def closed_loop(recorder: Recorder, callers: int) -> None:
    """Let callers make one call after the other; one that is refused waits as long as the server asks for."""
    loop = asyncio.get_running_loop()

    async def play() -> None:
        while (now := loop.time()) < recorder.stop:
            result = await recorder.send(now)
            if result.code != OK:
                pause = _PAUSE_SECONDS if result.retry_after_seconds is None else result.retry_after_seconds
                await asyncio.sleep(min(pause, max(0.0, recorder.stop - loop.time())))

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(play())


async def open_loop(recorder: Recorder, rate: float, moments: random.Random, tail_seconds: float) -> None:
    """Call at random moments, ``rate`` times a second on average, until all measured calls have their answers."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    async with asyncio.TaskGroup() as group:
        while due < recorder.stop or (recorder.waits and due < recorder.stop + tail_seconds):
            await asyncio.sleep(max(0.0, due - loop.time()))
            group.create_task(recorder.send(due))
            due += moments.expovariate(rate)
        await asyncio.sleep(max(0.0, recorder.stop - loop.time()))
