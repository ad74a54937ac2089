"""Hostile requests, a few thousand of those that ``make bench-fuzz`` makes: an answer or a refusal, never a bug."""

import asyncio
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stylewire import pb
from stylewire.server.front.api import requests
from support.fuzz.inputs import KINDS, Input, make, numbered
from support.fuzz.target import Target

SEED, COUNT = 7, 1500


@pytest.fixture(scope="module")
def run():
    """Sends an input through the server, all of it but sockets and networks."""
    loop = asyncio.new_event_loop()
    target = loop.run_until_complete(Target.opened())
    yield lambda given: loop.run_until_complete(target.run(given))
    loop.run_until_complete(target.close())
    loop.close()


def test_numbered_inputs_are_answered_or_refused(run):
    """Every kind of damage meets an answer or an error of the table, in time; valid requests are answered."""
    findings, codes = {}, Counter()
    for number in range(COUNT):
        each = numbered(SEED, number)
        outcome = run(each)
        codes[each.kind, outcome.code] += 1
        if outcome.finding:
            findings[number] = outcome.finding

    assert {} == findings
    assert set(KINDS) == {kind for kind, _ in codes}
    assert {"OK"} == {code for kind, code in codes if kind == "valid"}


def test_bug_is_found(run, monkeypatch):
    """What is looked for would be seen: an exception in a handler is a finding."""

    def broken(*_):
        raise RuntimeError

    monkeypatch.setattr(requests, "parse_generate", broken)
    content = pb.GenerateRequest(latents=[pb.Latent(seed=1)]).SerializeToString()

    assert run(Input("bug", "Generate", content)).finding.startswith("INTERNAL: internal error")


def test_input_of_a_number_is_always_the_same():
    """A number and a seed are all it takes to see an input again."""
    assert [numbered(1, number) for number in range(50)] == [numbered(1, number) for number in range(50)]
    assert numbered(1, 1) != numbered(2, 1)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(list(KINDS)), random=st.randoms(use_true_random=False))
def test_inputs_that_hypothesis_chooses_are_answered_or_refused(run, kind, random):
    """The same with every random choice made by hypothesis, which shrinks what fails."""
    outcome = run(make(kind, random))

    assert "" == outcome.finding
