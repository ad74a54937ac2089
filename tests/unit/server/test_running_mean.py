"""The mean that is learned while serving."""

import pytest

from stylewire.server.running_mean import RunningMean


def test_first_unit_is_the_mean_where_nothing_is_guessed():
    """Nothing is predicted before the first; then the latest counts for a fifth."""
    mean = RunningMean()
    before = mean.seconds
    mean.learn(2.0)
    first = mean.seconds
    mean.learn(7.0)

    assert (0, 2) == (before, first)
    assert pytest.approx(3) == mean.seconds


def test_guess_counts_as_what_was_done():
    """A first guess is predicted at once, and gives way as a unit that was done does."""
    mean = RunningMean(1.0)
    before = mean.seconds
    mean.learn(2.0)

    assert 1 == before
    assert pytest.approx(1.2) == mean.seconds


def test_outlier_counts_for_a_multiple_of_the_mean():
    """One stall of the machine does not rule the prediction."""
    mean = RunningMean(1.0, outlier=4.0)
    mean.learn(1000.0)

    assert pytest.approx(1 + 0.2 * 3) == mean.seconds
