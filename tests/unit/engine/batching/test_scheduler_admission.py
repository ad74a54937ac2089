"""Who is refused at the door, and what the scheduler learns for that; under a fake clock."""

import pytest

from stylewire.errors import DeadlineError, OverloadedError
from support.scheduler_harness import NEVER, SchedulerHarness


def test_wait_over_the_limit_is_refused_with_a_hint():
    """A request that would wait for longer than max_queue_seconds learns when half of the limit is left."""
    harness = SchedulerHarness(row_seconds=1.0, max_queue_seconds=3.0)
    harness.occupy()
    harness.push(4)

    with pytest.raises(OverloadedError) as caught:
        harness.push(4)
    assert caught.value.retry_after_seconds == pytest.approx(1 + 4 - 3.0 / 2)
    assert (1, 4) == (harness.scheduler.requests, harness.scheduler.rows)


def test_small_request_is_admitted_beside_a_large_one():
    """One row beside 64 that wait has only one row of them before it, so a short deadline is enough."""
    harness = SchedulerHarness(row_seconds=0.1)
    harness.occupy()
    harness.push(64)

    harness.push(1, has=0.35)
    with pytest.raises(DeadlineError):
        harness.push(2, has=0.35)
    with pytest.raises(DeadlineError):
        harness.push(1, has=0.35)


def test_instances_shorten_the_wait():
    """What waits is divided by the instances: with two of them a deadline is met that one cannot meet."""
    one, two = (SchedulerHarness(row_seconds=0.1, instances=instances) for instances in (1, 2))
    for harness, instances in ((one, 1), (two, 2)):
        for _ in range(instances):
            harness.occupy()
        harness.push(8)

    with pytest.raises(DeadlineError):
        one.push(4, has=0.75)
    two.push(4, has=0.75)


def test_deadline_that_cannot_be_met_is_refused_at_the_door():
    """A request that costs more than it has is refused before it waits, and the error says how much it needs."""
    harness = SchedulerHarness(row_seconds=2.0)

    with pytest.raises(DeadlineError, match=r"needs 2\.000 s, the request has 1\.000 s"):
        harness.push(has=1.0)
    assert 0 == harness.scheduler.requests


def test_idle_scheduler_tries_a_request_when_its_prediction_is_old():
    """More than a second after the last batch a request is tried that looks hopeless, and its cost is learned."""
    harness = SchedulerHarness(row_seconds=2.0)
    harness.clock.now += 1.5
    harness.serve(harness.push(has=1.0), seconds=0.2)

    assert harness.scheduler.costs.predict(1) < 2.0
    with pytest.raises(DeadlineError):
        harness.push(has=1.0)


def test_tries_bring_a_wrong_prediction_down():
    """A scheduler that believes in ten times the true cost is right again after some tries, one at a time."""
    harness = SchedulerHarness(row_seconds=2.0)
    tries = 0
    while harness.scheduler.costs.predict(1) > 0.8:
        harness.clock.now += 1.5
        entry = harness.push(has=1.0)
        with pytest.raises(DeadlineError):
            harness.push(has=1.0)
        harness.serve(entry, seconds=0.2)
        tries += 1

    assert 5 < tries < 60
    harness.push(has=1.5)


def test_busy_scheduler_trusts_its_prediction():
    """While a batch runs nothing hopeless is tried, however long ago the last one ended."""
    harness = SchedulerHarness(row_seconds=2.0)
    harness.occupy()
    harness.clock.now += 10

    with pytest.raises(DeadlineError):
        harness.push(has=1.0)


def test_late_answers_make_admission_careful():
    """After answers that came later than predicted, a request needs more time than its batch costs."""
    harness = SchedulerHarness(row_seconds=1.0)
    entry = harness.push(has=1.1)
    harness.clock.now += 1  # nobody took it for so long
    harness.serve(entry, seconds=1.0)

    with pytest.raises(DeadlineError):
        harness.push(has=1.9)
    harness.push(has=2.01)


def test_margin_takes_half_at_most():
    """However late answers were, half of what a request has is enough."""
    harness = SchedulerHarness(row_seconds=1.0)
    for _ in range(20):
        entry = harness.push()
        harness.clock.now += 100
        harness.serve(entry, seconds=1.0)

    with pytest.raises(DeadlineError):
        harness.push(has=1.98)
    harness.push(has=2.02)


@pytest.mark.parametrize("how", ["expires", "leaves"])
def test_request_without_an_answer_teaches_too(how):
    """Whoever expires or leaves later than predicted counts as late: results alone would tell of the lucky ones."""
    harness = SchedulerHarness(row_seconds=0.2)
    entry = harness.push(has=0.4)
    harness.clock.now += 0.6
    if how == "expires":
        assert harness.scheduler.take() is None
        assert [entry] == harness.scheduler.pop_expired()
    else:
        entry.future.finish()
        harness.scheduler.cancel(entry)

    with pytest.raises(DeadlineError):
        harness.push(has=0.39)
    harness.push(has=0.41)


def test_request_that_leaves_early_teaches_nothing():
    """Whoever leaves before the predicted_seconds time says nothing about it."""
    harness = SchedulerHarness(row_seconds=1.0)
    entry = harness.push(has=3.0)
    entry.future.finish()
    harness.scheduler.cancel(entry)

    harness.push(has=1.01)


def test_large_request_teaches_no_margin():
    """A request of more than one batch is overtaken by design, so its lateness says nothing."""
    harness = SchedulerHarness(row_seconds=1.0, max_batch_size=1)
    entry = harness.push(2)
    harness.clock.now += 100
    harness.finish(harness.start(), 1.0)
    harness.serve(entry, seconds=1.0)

    harness.push(has=1.01)


def test_one_stall_does_not_refuse_what_follows():
    """After one batch of a hundred times its cost, a request with three times its cost is served as before."""
    harness = SchedulerHarness(row_seconds=0.1)
    for seconds in (0.1,) * 20 + (10.0,):
        harness.serve(harness.push(has=NEVER), seconds)

    assert harness.scheduler.costs.predict(1) < 0.15
    harness.push(has=0.3)


def test_failed_batch_teaches_no_cost():
    """What a batch took that failed says nothing about those that do not."""
    harness = SchedulerHarness(row_seconds=0.1)
    batch = harness.occupy()
    harness.clock.now += 0.3
    harness.scheduler.finish(batch, failed=True)

    assert harness.scheduler.costs.predict(1) == pytest.approx(0.1)
