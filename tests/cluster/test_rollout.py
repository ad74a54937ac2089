"""Servers that come and go under load, behind a real Envoy and with the SDK alone: no caller notices."""

import pytest

from support.cluster_stories import CALLERS, ENVOY, SDK, WAYS, kill, rolling_restart, scale_up, slow_server


@pytest.mark.parametrize("way", WAYS)
def test_rolling_restart_fails_no_call(way):
    """Every server is replaced under load; all calls are answered, walks too, and nothing is made twice."""
    outcome = rolling_restart(way)

    assert () == outcome.errors
    assert outcome.sent == outcome.answered
    assert 0 == outcome.doubled


@pytest.mark.parametrize("way", WAYS)
def test_killed_server_fails_no_call(way):
    """Callers do not notice kill -9, and no more than what the server had begun is made again."""
    outcome = kill(way)

    assert () == outcome.errors
    assert outcome.sent == outcome.answered
    assert outcome.doubled <= outcome.in_flight <= CALLERS


def test_slow_server_gets_fewer_calls_from_envoy():
    """Of two servers, the one that has the processor for a tenth of the time gets the smaller part."""
    slow, fast = slow_server(ENVOY)

    assert slow < 0.8 * fast


def test_slow_server_gets_as_many_calls_by_round_robin():
    """The SDK alone knows nothing of speed; deploy/README.md says so."""
    slow, fast = slow_server(SDK)

    assert abs(slow - fast) <= 2 * CALLERS


@pytest.mark.parametrize("way", WAYS)
def test_servers_that_are_added_get_calls(way):
    """From one server to four under load: all of them answer, and no call fails."""
    outcome, rows = scale_up(way)

    assert () == outcome.errors
    assert 4 == sum(each > 0 for each in rows)
