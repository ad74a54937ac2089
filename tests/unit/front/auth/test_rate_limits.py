"""Rates and calls in flight, on a clock of the test."""

import pytest

from stylewire.errors import OverloadedError, RateLimitedError
from stylewire.server.front.auth.rate_limits import RateLimits


class Clock:
    """A clock that stands still until a test moves it."""

    now = 0.0

    def __call__(self):
        return self.now


def make(**changed):
    clock = Clock()
    unlimited = {"calls_per_second": 0.0, "calls_per_client": 0, "open_calls": 1000}
    return RateLimits(**{**unlimited, **changed}, clock=clock), clock


def admitted(limits, name, attempts):
    """How many of some calls at once are let in."""
    count = 0
    for _ in range(attempts):
        try:
            limits.enter(name)
        except RateLimitedError:
            continue
        count += 1
    return count


def test_rate_allows_a_burst_of_a_second():
    """5 calls/s let 5 in at once, then one each fifth of a second."""
    limits, clock = make(calls_per_second=5)

    assert 5 == admitted(limits, "a", 20)
    clock.now = 0.2
    assert 1 == admitted(limits, "a", 20)
    clock.now = 100.0
    assert 5 == admitted(limits, "a", 20)


def test_rate_below_one_lets_a_call_in():
    """One call each ten seconds is possible, and the error says when the next one may come."""
    limits, clock = make(calls_per_second=0.1)
    limits.enter("a")
    clock.now = 4.0
    with pytest.raises(RateLimitedError) as caught:
        limits.enter("a")

    assert pytest.approx(6.0) == caught.value.retry_after_seconds


def test_clients_have_limits_of_their_own():
    """What one client uses up is nothing to another."""
    limits, _ = make(calls_per_second=2, calls_per_client=2)
    admitted(limits, "a", 9)

    assert 2 == admitted(limits, "b", 9)


def test_open_calls_of_a_client_end():
    """A client with as many calls in flight as it may have can call again when one ends."""
    limits, _ = make(calls_per_client=3)

    assert 3 == admitted(limits, "a", 9)
    limits.leave("a")
    assert 1 == admitted(limits, "a", 9)


def test_refused_call_costs_nothing():
    """A call refused for those in flight does not use up the rate."""
    limits, _ = make(calls_per_second=3, calls_per_client=1)
    admitted(limits, "a", 50)
    limits.leave("a")

    assert 1 == admitted(limits, "a", 1)


def test_open_calls_of_all_are_bounded():
    """More calls than the server may have are refused whoever makes them."""
    limits, _ = make(open_calls=2)
    limits.enter("a")
    limits.enter("b")
    with pytest.raises(OverloadedError, match="2 calls are in flight"):
        limits.enter("c")
    with pytest.raises(OverloadedError):
        limits.check()
    limits.leave("a")

    limits.check()


def test_memory_is_bounded():
    """Clients that are idle are forgotten when too many are known, those with calls in flight are not."""
    limits, _ = make(max_clients=10, calls_per_client=1)
    limits.enter("busy")
    for number in range(100):
        limits.enter(f"n{number}")
        limits.leave(f"n{number}")

    assert 10 == limits.client_count
    assert 0 == admitted(limits, "busy", 3)


def test_flood_of_busy_clients_stays_bounded():
    """Even clients that all have calls in flight do not grow the table, and their ends are counted right."""
    limits, _ = make(max_clients=10, calls_per_client=1, open_calls=100)
    for number in range(100):
        limits.enter(f"n{number}")
    for number in range(100):
        limits.leave(f"n{number}")

    assert 10 == limits.client_count
    assert 0 == limits.open_calls
