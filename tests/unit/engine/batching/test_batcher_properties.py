"""What holds whatever callers do: everybody is answered once, with their own rows or an error."""

import asyncio
import contextlib
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from stylewire.errors import DeadlineError, OverloadedError
from stylewire.server.engine_api.graphs import BatchError
from support.batcher_harness import BatcherHarness, values


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from(["stay", "leave", "expire"]), st.booleans()),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 5),
)
def test_everybody_gets_their_own_rows_or_an_error(requests, max_batch_size):
    """Whatever comes, leaves, expires or fails: each caller gets exactly its rows, in order, or its own error."""

    async def play() -> None:
        async with BatcherHarness(max_batch_size=max_batch_size) as harness:
            harness.graph.poison = -1
            first = await harness.occupy()
            tasks = []
            for index, (count, fate, poisoned) in enumerate(requests):
                mine = [100.0 * index + row for row in range(1, count + 1)]
                if poisoned:
                    mine[-1] = -1.0
                deadline = harness.clock.now + 1 if fate == "expire" else None
                tasks.append((mine, fate, harness.submit(*mine, deadline=deadline)))
            await harness.settle()
            for _, fate, task in tasks:
                if fate == "leave":
                    task.cancel()
            await harness.settle()
            harness.clock.now += 2
            harness.graph.open_gate()
            await first
            for mine, fate, task in tasks:
                expected = {"stay": BatchError, "leave": asyncio.CancelledError, "expire": DeadlineError}[fate]
                with contextlib.suppress(expected):
                    assert [2 * value for value in mine] == values(await task)
                    assert fate == "stay"
            ran = [value for batch in harness.graph.batches for value in batch]
            assert not {v for mine, fate, _ in tasks if fate != "stay" for v in mine if v > 0} & set(ran)

    asyncio.run(play())


_ACTIONS = st.one_of(
    st.tuples(
        st.just("submit"),
        st.integers(1, 9),
        st.booleans(),
        st.none() | st.sampled_from([1.0, 4.0]),
        st.sampled_from([False, False, False, True]),
    ),
    st.tuples(st.just("burst"), st.integers(2, 12)),
    st.tuples(st.just("leave"), st.integers(0, 99)),
    st.tuples(st.just("pass"), st.sampled_from([0.01, 0.5, 2.0])),
    st.tuples(st.just("release"), st.integers(0, 99)),
    st.tuples(st.just("hold"), st.booleans()),
)


class Callers:
    """Callers of a batcher that remember what they asked for."""

    def __init__(self, harness) -> None:
        self.harness = harness
        self.asked: list[tuple[list[float], bool, bool, asyncio.Task]] = []  # rows, converted, has deadline, answer

    def submit(self, count, converted=False, has=None, poisoned=False) -> None:
        mine = [100.0 * (len(self.asked) + 1) + row for row in range(count)]
        if poisoned:
            mine[-1] = -1.0
        deadline = None if has is None else self.harness.clock.now + has
        convert = (lambda outputs, start: outputs["y"][:, 0].tolist()) if converted else None
        task = self.harness.submit(*mine, deadline=deadline, convert=convert)
        self.asked.append((mine, converted, has is not None, task))

    def burst(self, count) -> None:
        for _ in range(count):
            self.submit(1)

    def leave(self, pick) -> None:
        if waiting := [task for *_, task in self.asked if not task.done()]:
            waiting[pick % len(waiting)].cancel()

    def do(self, what, *how) -> None:
        graph = self.harness.graph
        match what:
            case "pass":
                self.harness.clock.now += how[0]
            case "release":
                if graph.batches:
                    graph.release(how[0] % len(graph.batches))
            case "hold":
                graph.close_gate() if how[0] else graph.open_gate()
            case _:
                getattr(self, what)(*how)

    async def check(self) -> None:
        """Everybody has exactly their rows, or an error that they may have."""
        for mine, converted, timed, task in self.asked:
            (answer,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(answer, BaseException):
                assert timed or not isinstance(answer, DeadlineError)
                assert isinstance(answer, BatchError | DeadlineError | OverloadedError | asyncio.CancelledError)
            else:
                assert -1 not in mine
                assert [2 * value for value in mine] == (answer.converted if converted else values(answer))


@settings(max_examples=80, deadline=None)
@given(st.lists(_ACTIONS, min_size=1, max_size=25), st.integers(1, 4), st.integers(1, 3))
def test_everybody_is_answered_once_with_their_own_rows(actions, max_batch_size, instances):
    """Whatever comes, leaves, expires, fails or takes long, in any instance: everybody has one answer, their own."""

    async def play() -> None:
        async with BatcherHarness(max_batch_size=max_batch_size, instances=instances) as harness:
            harness.graph.poison = -1.0
            harness.graph.close_gate()
            callers = Callers(harness)
            for action in actions:
                callers.do(*action)
                await harness.settle()
            harness.graph.open_gate()
            await asyncio.wait_for(callers.check(), 30)
            await harness.batcher.close()
            ran = Counter(value for batch in harness.graph.batches for value in batch if value > 0)

            assert len(callers.asked) == len(harness.observer.entries) + len(harness.observer.refusals)
            assert {1} >= set(ran.values()), "a row ran twice"
            assert (0, 0) == (harness.scheduler.rows, harness.scheduler.requests)
            assert harness.graph.most_at_once <= instances
            assert all(size <= max_batch_size for size in harness.observer.batches)

    asyncio.run(play())
