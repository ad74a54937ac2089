"""One step after the other: more callers until nothing is gained, or a list of rates."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stylewire.loadtest.capacity import is_saturated
from stylewire.loadtest.loops import Call, Recorder, Window, closed_loop, open_loop
from stylewire.loadtest.results import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The steps of a load.

    Attributes:
        window: how long each takes.
        callers: of closed loops, one a step; empty doubles them until that gains nothing.
        max_callers: where doubling ends at the latest.
        rates: of open loops in images a second, one a step; no closed loops then.
        images_per_call: what a call returns.
    """

    window: Window
    callers: Sequence[int] = ()
    max_callers: int = 256
    rates: Sequence[float] = ()
    images_per_call: int = 1


class Sweep:
    """Runs the steps of a schedule.

    Attributes:
        steps: those that ended, and, after ``interrupt``, the one in progress.
    """

    def __init__(self, call: Call, schedule: Schedule, on_step: Callable[[Step], None]) -> None:
        self.steps: list[Step] = []
        self._call, self._schedule, self._on_step = call, schedule, on_step
        self._recorder: Recorder | None = None
        self._sent = 0
        self._moments = random.Random(0)  # noqa: S311 - the same load every time

    async def run(self) -> None:
        """Run all steps; each is reported to ``on_step`` when it has ended."""
        schedule = self._schedule
        if schedule.rates:
            for rate in schedule.rates:
                await self._open(rate)
        elif schedule.callers:
            for callers in schedule.callers:
                await self._closed(callers)
        else:
            callers = 1
            while callers <= schedule.max_callers and not is_saturated([each.images_per_second for each in self.steps]):
                await self._closed(callers)
                callers *= 2

    def interrupt(self) -> None:
        """Add the step in progress with its results so far."""
        if self._recorder is not None and (step := self._recorder.step()) is not None:
            self.steps.append(step)
        self._recorder = None

    async def _closed(self, callers: int) -> None:
        self._recorder = Recorder(self._call, self._schedule.window, callers=callers, first=self._sent)
        await closed_loop(self._recorder, callers)
        self._finish(self._recorder)

    async def _open(self, rate: float) -> None:
        window = self._schedule.window
        self._recorder = Recorder(self._call, window, offered=rate, first=self._sent)
        await open_loop(self._recorder, rate / self._schedule.images_per_call, self._moments, window.tail_seconds)
        self._finish(self._recorder)

    def _finish(self, recorder: Recorder) -> None:
        self._sent += recorder.sent
        self.interrupt()
        self._on_step(self.steps[-1])
