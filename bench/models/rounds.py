"""All candidates of a network in one process, in turns: shared machines drift, so only neighbors are compared."""

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from interleave import seconds_per_run, take_turns
from models.candidate import Candidate, Runnable
from models.networks import Network

K = TypeVar("K", bound=Hashable)
TURN_SECONDS = 0.05
"""A turn has as many runs as fill this: one run of a small network is too short to time."""
REST_SECONDS = 0.02
"""Before a turn: the threads of some runtimes wait for more work in a loop, and would take a core from the next."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """What one candidate showed at one batch size.

    Attributes:
        candidate: whose result it is.
        batch: rows of a run.
        output: of the network's first output, for the seeded inputs.
        seconds: of one run, a value a round; empty for candidates that are not timed.
    """

    candidate: Candidate
    batch: int
    output: np.ndarray
    seconds: Sequence[float]


def compare_candidates(
    candidates: Sequence[Candidate], network: Network, batches: Sequence[int], *, rounds: int, threads: int
) -> list[Result]:
    """Run the rounds of every batch size; graphs that take any size stay open.

    Candidates that are not timed run once, at the first batch size, while nothing else is loaded.
    """
    once, timed = [each for each in candidates if not each.timed], [each for each in candidates if each.timed]
    results = [_run_once(each, network, batches[0], threads) for each in once]
    with ExitStack() as all_sizes:
        anywhere = {each: _open(each, threads, all_sizes) for each in timed if not each.batch}
        for batch in batches:
            with ExitStack() as one_size:
                opened = anywhere | {each: _open(each, threads, one_size) for each in timed if each.batch == batch}
                in_order = {each: opened[each] for each in timed if each.takes(batch)}
                results += _run_rounds(in_order, network, batch, rounds)
    return sorted(results, key=lambda result: (result.batch, not result.candidate.timed))


def time_in_turns(runs: Mapping[K, Callable[[], object]], rounds: int) -> dict[K, list[float]]:
    """Time all in every round, each after a rest.

    Returns:
        Seconds of one run, a value a round.
    """
    counts = {key: max(1, math.ceil(TURN_SECONDS / seconds_per_run(run))) for key, run in runs.items()}
    return take_turns({key: partial(_time, run, counts[key]) for key, run in runs.items()}, range(rounds))


def _open(candidate: Candidate, threads: int, stack: ExitStack) -> Runnable:
    return stack.enter_context(closing(candidate.open(threads)))


def _run_once(candidate: Candidate, network: Network, batch: int, threads: int) -> Result:
    with ExitStack() as stack:
        made = _open(candidate, threads, stack).run(network.inputs(batch), (network.output,))
    return Result(candidate=candidate, batch=batch, output=made[network.output], seconds=())


def _run_rounds(opened: Mapping[Candidate, Runnable], network: Network, batch: int, rounds: int) -> list[Result]:
    inputs, output = network.inputs(batch), network.output
    made = {each: backend.run(inputs, (output,))[output] for each, backend in opened.items()}
    seconds = time_in_turns({each: partial(backend.run, inputs, (output,)) for each, backend in opened.items()}, rounds)
    return [Result(candidate=each, batch=batch, output=array, seconds=seconds[each]) for each, array in made.items()]


def _time(run: Callable[[], object], count: int) -> float:
    time.sleep(REST_SECONDS)
    return seconds_per_run(run, count)
