"""The one record of a call: its deadline, and where its time went."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from stylewire.server.context import RequestContext, Timings
from stylewire.server.engine_api.graphs import BatchResult


def result(queue, run, convert, size):
    return BatchResult({}, [1], queue, run, convert, size)


def test_times_of_graphs_add_up():
    """A reply's times are the sum over its graphs; its batch is that of the last one."""
    timings = Timings()
    timings.count(result(1.0, 2.0, 0.5, 8))
    timings.count(result(0.5, 1.0, 0.0, 3))

    assert Timings(1.5, 3.0, 0.5, 3) == timings


def test_call_sums_the_replies_that_it_sent():
    """The log has the times of all replies and the largest batch; each reply is observed by itself."""
    seen = []
    call = RequestContext(observe=seen.append)
    for timings in (Timings(1.0, 2.0, 3.0, 8), Timings(1.0, 1.0, 1.0, 2)):
        call.reply(timings)

    assert Timings(2.0, 3.0, 4.0, 8) == call.sent
    assert [8, 2] == [each.batch_size for each in seen]


def test_frame_has_times_of_its_own():
    """A part of a stream shares everything with its call but the times."""
    call = RequestContext(request_id="r", deadline=5.0)
    part = call.part()
    part.timings.queue_seconds += 1

    assert ("r", 5.0, 0.0) == (part.request_id, part.deadline, call.timings.queue_seconds)


@pytest.mark.parametrize(
    ("first", "second", "kept"), [(None, None, None), (9.0, None, 9.0), (9.0, 1.0, 1.0), (1.0, 9.0, 1.0)]
)
def test_deadline_only_moves_closer(first, second, kept):
    """Of the caller's deadline and a limit within its request the earlier one holds; without both there is none."""
    call, before = RequestContext(), time.monotonic()
    call.limit(first)
    call.limit(second)

    assert (kept is None) == (call.deadline is None)
    assert kept is None or before + kept <= call.deadline <= time.monotonic() + kept


def test_work_in_a_thread_counts_as_encoding():
    """What a thread does for a call is part of its encoding time, and is returned."""
    call = RequestContext()
    with ThreadPoolExecutor(1) as executor:
        found = asyncio.run(call.timed("encode", executor, divmod, 7, 2))

    assert (3, 1) == found
    assert call.timings.encoding_seconds > 0
