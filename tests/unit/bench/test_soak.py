"""The soak bench sees what it is there for."""

import pytest

from fuzz.soak import __main__ as soak
from fuzz.soak import clients
from fuzz.soak.samples import Sample, slope


def samples(grows=0, seconds=300, **levels):
    """A sample a second; memory grows by so many bytes in each."""
    held = {"descriptors": 30, "threads": 20, "tasks": 50, "in_flight": 10, **levels}
    return [Sample(seconds=second, memory_bytes=10**8 + grows * second, **held) for second in range(seconds)]


def test_slope_is_that_of_the_line():
    """The fitted line of a quantity that grows evenly is that growth."""
    assert 1000 == pytest.approx(slope(samples(1000), "memory_bytes"))


@pytest.mark.parametrize(("grows", "found"), [(0, 0), (10_000, 0), (60_000, 1)])
def test_growing_memory_is_found(grows, found):
    """60 KB a second are a leak; 10 KB are within what allocators do."""
    assert found == len(soak._growth(samples(grows)))


@pytest.mark.parametrize("name", ["descriptors", "threads", "tasks", "in_flight"])
def test_what_is_left_is_found(name):
    """One more than may be kept of anything is a leak, when everybody has gone."""
    count = soak._KEPT.get(name, 0) + 1
    (before,), (after,) = samples(seconds=1), samples(seconds=1)
    (left,) = samples(seconds=1, **{name: getattr(after, name) + count})

    assert [] == soak._rest(before, after)
    assert [f"{count} {name} are left when everybody has gone"] == soak._rest(before, left)


def test_every_character_has_its_statuses():
    """No kind of client is without a list of the statuses that it may get."""
    assert {each.__name__ for each in clients._CHARACTERS} == set(clients.EXPECTED)
