"""The requests that wait for one graph, and whose rows come first."""

from collections import deque
from collections.abc import Iterator

from stylewire.server.engine.batching.batch import BatchSlice, QueuedRequest


class RequestQueue:
    """Requests in the order in which they came; one that has rows left after a batch goes to the end.

    Attributes:
        rows: how many rows wait.
        requests: how many requests have them.
    """

    def __init__(self) -> None:
        self.rows = self.requests = 0
        self._queue: deque[QueuedRequest] = deque()

    def add(self, request: QueuedRequest) -> None:
        """Let a request wait."""
        request.waits = True
        self._queue.append(request)
        self._count(request, 1)

    def remove(self, request: QueuedRequest) -> None:
        """Take a request out, if it is there."""
        if not request.waits:
            return
        request.waits = False
        self._count(request, -1)
        while self._queue and not self._queue[0].waits:  # others are skipped when their turn comes
            self._queue.popleft()

    def remove_all(self) -> list[QueuedRequest]:
        """Take everybody out."""
        waiting = [request for request in self._queue if request.waits]
        for request in waiting:
            self.remove(request)
        return waiting

    def rows_ahead(self, row_count: int) -> int:
        """Count the rows that come before those of a new request with so many: everybody is served in turn."""
        if row_count == 1:
            return self.requests
        return sum(min(each.left, row_count) for each in self._queue if each.waits)

    def stackable(self, now: float) -> Iterator[QueuedRequest]:
        """Yield requests whose rows have the shapes of the first one's, such as those with stored noise only."""
        alive = (request for request in self._queue if request.waits and not request.dead(now))
        for first in alive:
            yield first
            yield from (request for request in alive if request.shapes == first.shapes)

    def compose(self, limit: int, now: float) -> tuple[list[BatchSlice], list[QueuedRequest]]:
        """Take a row of every request in turn until there are so many rows or nobody waits.

        Returns:
            The slices of a batch, and the requests whose turn it was and whom nobody waits for any more.
        """
        first, dead = self._pop_first(limit, now)
        counts = dict.fromkeys(first, 0)
        room = limit
        while room and (hungry := [request for request in first if counts[request] < request.left]):
            for request in hungry[:room]:
                counts[request] += 1
            room -= min(room, len(hungry))
        slices = [BatchSlice(request, request.taken, request.taken + count) for request, count in counts.items()]
        for request, count in counts.items():
            self._count(request, -1)
            request.taken += count
            request.waits = request.left > 0
            if request.waits:  # to the end, so that those behind it come first into the next batch
                self._count(request, 1)
                self._queue.append(request)
        return slices, dead

    def _count(self, request: QueuedRequest, sign: int) -> None:
        self.requests += sign
        self.rows += sign * request.left

    def _pop_first(self, most: int, now: float) -> tuple[list[QueuedRequest], list[QueuedRequest]]:
        """Take the first requests of one shape out of the queue, and those before them that are dead."""
        found, dead, passed = list[QueuedRequest](), list[QueuedRequest](), list[QueuedRequest]()
        while self._queue and len(found) < most:
            request = self._queue.popleft()
            if not request.waits:
                continue
            if request.dead(now):
                dead.append(request)
            elif found and request.shapes != found[0].shapes:
                passed.append(request)
            else:
                found.append(request)
        self._queue.extendleft(reversed(passed))
        for request in dead:
            self.remove(request)
        return found, dead
