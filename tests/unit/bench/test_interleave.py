"""Measurements in turns, and what is computed from them."""

import pytest

from interleave import Spread, ratios, seconds_per_run, take_turns


def test_every_other_round_is_backward():
    """Nobody always follows the same neighbor."""
    order = []
    measures = {name: lambda name=name: order.append(name) or len(order) for name in "abc"}

    assert {"a": [1, 6], "b": [2, 5], "c": [3, 4]} == take_turns(measures, range(2))
    assert list("abccba") == order


def test_rounds_may_end_early():
    """What decides about the next round is asked before it."""
    assert {"a": []} == take_turns({"a": lambda: 1}, iter(()))


def test_spread_prints_median_and_range():
    """The median stands first; the form is that of all three."""
    spread = Spread.of([4.0, 1.0, 2.0])

    assert ("2.00 (1.00 to 4.00)", "2 (1 to 4)") == (str(spread), f"{spread:.0f}")


def test_ratios_are_of_rounds():
    """Each value is divided by that of its own round."""
    assert [2.0, 4.0] == ratios([4.0, 40.0], [2.0, 10.0])
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_seconds_are_those_of_one_run():
    """The time of all runs is divided by their count; the clock can be another."""
    ticks, runs = iter((10.0, 16.0)), []

    assert 2.0 == seconds_per_run(lambda: runs.append(1), 3, lambda: next(ticks))
    assert [1, 1, 1] == runs
