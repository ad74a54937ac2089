"""Projections that wait and run, and how long that takes: what a step of a model costs is learned from its steps."""

import math
from collections import OrderedDict

from stylewire.server.running_mean import OUTLIER, RunningMean

_KNOWN_MODELS = 64


class Job:
    """A projection that waits or runs.

    Args:
        backlog: that it is in.
        digest: of its model.
        step_count: that it is to make.
    """

    def __init__(self, backlog: "Backlog", digest: str, step_count: int) -> None:
        self._backlog = backlog
        self.digest, self.step_count, self.steps_left = digest, step_count, step_count
        self._stepped_at = math.nan

    def stepped(self, step: int, now: float) -> float | None:
        """Note that so many steps are done; return the seconds of the last one, None for step 0, which makes none."""
        seconds, self._stepped_at = now - self._stepped_at, now
        self.steps_left = self.step_count - step
        if not step:
            return None
        self._backlog.learn(self.digest, seconds)
        return seconds


class Backlog:
    """The projections of a server.

    Args:
        places: how many run at once.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._jobs: list[Job] = []
        self._costs: OrderedDict[str, RunningMean] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Number of projections that have no process yet."""
        return max(0, len(self._jobs) - self._places)

    @property
    def full(self) -> bool:
        """Whether one more would have to wait."""
        return len(self._jobs) >= self._places

    def add(self, digest: str, step_count: int) -> Job:
        """Add a projection that waits."""
        job = Job(self, digest, step_count)
        self._jobs.append(job)
        return job

    def remove(self, job: Job) -> None:
        """Remove a projection that has ended."""
        self._jobs.remove(job)

    def learn(self, digest: str, seconds: float) -> None:
        """Learn from a step that was made."""
        self._costs.setdefault(digest, RunningMean(outlier=OUTLIER)).learn(seconds)
        self._costs.move_to_end(digest)
        while len(self._costs) > _KNOWN_MODELS:
            self._costs.popitem(last=False)

    def predict(self, digest: str, step_count: int) -> float:
        """Predict in how many seconds one more would be done; steps of a model that never ran count as 0."""
        before = sum(map(self._left_seconds, self._jobs)) / self._places if self.full else 0.0
        return before + step_count * self._step_seconds(digest)

    def next_end_seconds(self) -> float:
        """Predict in how many seconds the first of those that run ends."""
        return min(map(self._left_seconds, self._jobs[: self._places]), default=0.0)

    def _left_seconds(self, job: Job) -> float:
        return job.steps_left * self._step_seconds(job.digest)

    def _step_seconds(self, digest: str) -> float:
        known = self._costs.get(digest)
        return known.seconds if known else 0.0
