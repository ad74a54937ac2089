"""The learned cost of a batch."""

import pytest

from stylewire.server.engine.batching.cost_model import CostModel, Margin


def test_cost_is_zero_before_the_first_batch():
    """Nothing is predicted from nothing."""
    assert 0 == CostModel().predict(8)


def test_cost_learns_a_line():
    """Base cost and cost a row are found from batches of different sizes."""
    costs = CostModel()
    for size in (1, 2, 4, 8) * 5:
        costs.learn(size, 0.010 + 0.002 * size)

    assert costs.predict(16) == pytest.approx(0.042)
    assert costs.predict_rows(20, 8) == pytest.approx(2 * 0.026 + 0.018)


def test_cost_of_one_size_scales_with_rows():
    """From batches of one size only, the cost is taken to be proportional."""
    costs = CostModel()
    costs.learn(4, 0.4)
    costs.learn(4, 0.4)

    assert costs.predict(8) == pytest.approx(0.8)


def test_cost_follows_a_change():
    """When the machine becomes slower, fifty batches later the model knows."""
    costs = CostModel()
    for _ in range(50):
        costs.learn(2, 0.1)
    for _ in range(50):
        costs.learn(2, 0.3)

    assert costs.predict(2) == pytest.approx(0.3, rel=0.1)


def test_cost_is_never_negative():
    """Noise that makes larger batches look cheaper does not predict a negative time."""
    costs = CostModel()
    costs.learn(1, 1.0)
    costs.learn(8, 0.1)

    assert costs.predict(64) >= 0


def test_one_outlier_changes_little():
    """A batch of a hundred times its cost, as when the machine stalls, counts for four times at most."""
    costs = CostModel()
    for seconds in (0.1,) * 20 + (10.0,):
        costs.learn(2, seconds)

    assert 0.1 < costs.predict(2) < 0.13


def test_slow_machine_is_believed_in_the_end():
    """If batches stay a hundred times slower, the prediction follows although each counts for four times at most."""
    costs = CostModel()
    for seconds in (0.1,) * 20 + (10.0,) * 60:
        costs.learn(2, seconds)

    assert costs.predict(2) == pytest.approx(10.0, rel=0.2)


@pytest.mark.parametrize(("seconds", "rows"), [(0.009, 1), (0.010, 1), (0.0181, 4), (0.0261, 8), (1.0, 8)])
def test_largest_batch_within_a_time(seconds, rows):
    """With 10 ms and 2 ms a row, so many rows are through in time; one row always runs."""
    costs = CostModel()
    for size in (1, 2, 4, 8):
        costs.learn(size, 0.010 + 0.002 * size)

    assert rows == costs.rows_within(seconds, 8)


def test_largest_batch_is_unlimited_before_the_first():
    """What is not known limits nothing."""
    assert 64 == CostModel().rows_within(0.001, 64)


def test_margin_is_the_latest_answer_and_fades():
    """One late answer counts in full at once, half after some seconds, and not at all in the end."""
    margin = Margin()
    margin.learn(0.4, now=10.0)

    assert 0.4 == margin.seconds(10.0)
    assert margin.seconds(13.0) == pytest.approx(0.2)
    assert margin.seconds(70.0) < 1e-5


def test_margin_keeps_what_is_later():
    """A less late answer, or an early one, changes nothing; a later one does."""
    margin = Margin()
    for late in (0.4, 0.1, -1.0):
        margin.learn(late, now=10.0)
    assert 0.4 == margin.seconds(10.0)
    margin.learn(0.5, now=10.0)

    assert 0.5 == margin.seconds(10.0)


def test_margin_is_never_negative():
    """Answers that come early do not make later ones hopeful."""
    margin = Margin()
    for second in range(20):
        margin.learn(-1.0, now=float(second))

    assert 0 == margin.seconds(20.0)
