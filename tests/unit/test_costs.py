"""The learned cost of a batch."""

import pytest

from stylewire.server.costs import CostModel


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
