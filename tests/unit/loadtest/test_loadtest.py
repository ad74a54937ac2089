import asyncio
import math
import random

import pytest

from stylewire.loadtest.capacity import Plan, Target, find_saturation, is_saturated
from stylewire.loadtest.loops import Recorder, Window, closed_loop, open_loop
from stylewire.loadtest.results import CallResult, ServerTimes, Step, percentile
from stylewire.loadtest.sweep import Schedule, Sweep
from support.virtual_time import run_virtually

RUN_SECONDS = 0.1
WINDOW = Window(warm_up_seconds=1, seconds=10, tail_seconds=60)


class OneAtATime:
    """A service that makes an image in ``RUN_SECONDS``, one after the other, and stands still for a while."""

    def __init__(self, stall_from=math.inf, stall_seconds=0.0):
        self.numbers = []
        self._free = asyncio.Lock()
        self._stall = (stall_from, stall_from + stall_seconds)

    async def __call__(self, number):
        self.numbers.append(number)
        loop = asyncio.get_running_loop()
        async with self._free:
            if self._stall[0] <= loop.time() < self._stall[1]:
                await asyncio.sleep(self._stall[1] - loop.time())
            await asyncio.sleep(RUN_SECONDS)
        return CallResult(images=1, batch_size=1, inference_seconds=RUN_SECONDS)


class Refusing:
    def __init__(self, retry_after_seconds):
        self._retry_after_seconds = retry_after_seconds

    async def __call__(self, number):
        return CallResult(code="RESOURCE_EXHAUSTED", problem="full", retry_after_seconds=self._retry_after_seconds)


def closed(make_call, callers, window=WINDOW):
    async def play():
        recorder = Recorder(make_call(), window, callers=callers)
        await closed_loop(recorder, callers)
        return recorder.step()

    return run_virtually(play())


def opened(make_call, rate, window=WINDOW):
    async def play():
        recorder = Recorder(make_call(), window, offered=rate)
        await open_loop(recorder, rate, random.Random(1), window.tail_seconds)
        return recorder.step()

    return run_virtually(play())


def swept(make_call, **course):
    told = []

    async def play():
        sweep = Sweep(make_call(), Schedule(window=WINDOW, **course), told.append)
        await sweep.run()
        return sweep.steps

    steps = run_virtually(play())
    assert told == steps
    return steps


def step(images_per_second, p99=0.1, callers=1, codes=None, offered=None):
    return Step(
        callers=callers,
        offered=offered,
        seconds=10.0,
        codes=codes or {"OK": 100},
        problems={},
        images=round(10 * images_per_second),
        latencies=[p99],
        server_times=ServerTimes.of([]),
        client_share=0.0,
        late_seconds=0.0,
        complete=True,
    )


def target(images_per_second, **fields):
    return Target(
        **{
            "images_per_second": images_per_second,
            "p99_seconds": 0.5,
            "headroom": 0.0,
            "gpus_per_replica": 0,
            **fields,
        }
    )


@pytest.mark.parametrize(("rank", "expected"), [(0, 1), (50, 50), (90, 90), (99, 99), (99.5, 100), (100, 100)])
def test_percentile_is_a_value_that_so_many_do_not_exceed(rank, expected):
    """A percentile is one of the values, the smallest that enough of them do not exceed."""
    assert expected == percentile(range(1, 101), rank)


def test_percentile_of_nothing_is_nan():
    """Without answers there is no latency, and 0 would be the best one."""
    assert math.isnan(percentile([], 99))


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ([10, 10], False),
        ([10, 20, 20], False),
        ([10, 20, 20.5, 20.4], True),
        ([10, 20, 20.5, 30], False),
        ([10, 9, 9.3], True),
        ([0, 0, 0], True),
    ],
)
def test_saturation_takes_two_steps_without_gain(speeds, expected):
    """One step without gain may be noise; two in a row are the end."""
    assert expected == is_saturated(speeds)


def test_saturation_is_the_last_step_that_gained():
    """The point of saturation has the fewest callers from which on more of them gain nothing."""
    steps = [step(speed, callers=2**index) for index, speed in enumerate([10, 19, 30, 31, 30])]

    assert 4 == find_saturation(steps).callers
    assert find_saturation(steps[:4]) is None


def test_closed_loop_measures_the_service():
    """Three callers of a service that runs one call at a time wait for two others and themselves."""
    found = closed(OneAtATime, 3)

    assert pytest.approx(1 / RUN_SECONDS, abs=0.11) == found.images_per_second
    assert pytest.approx(3 * RUN_SECONDS) == found.percentile(50)
    assert found.complete
    assert {1: (len(found.latencies), pytest.approx(RUN_SECONDS), pytest.approx(0))} == dict(found.server_times.batches)


def test_closed_loop_counts_all_calls_and_measures_some():
    """Calls of the warm-up are counted, as the server counts them, and not measured."""
    found = closed(OneAtATime, 1)

    assert pytest.approx(110, abs=1) == found.codes["OK"]
    assert pytest.approx(100, abs=1) == len(found.latencies) == found.images


def test_closed_loop_comes_back_when_the_server_says():
    """A refused caller waits as long as it is told, and every refusal is counted with its reason."""
    found = closed(lambda: Refusing(0.5), 2)

    assert {"RESOURCE_EXHAUSTED": 2 * 22} == found.failures
    assert {"RESOURCE_EXHAUSTED": "full"} == found.problems
    assert 0 == found.images_per_second
    assert math.isnan(found.percentile(99))


def test_open_loop_keeps_its_rate():
    """A service that is slower than the calls come is called at the same rate."""
    found = opened(OneAtATime, 20)

    assert pytest.approx(20 * WINDOW.seconds, rel=0.25) == len(found.latencies)
    assert pytest.approx(10, abs=0.11) == found.images_per_second
    assert found.percentile(99) > 5


def test_open_loop_sees_a_stall_that_a_closed_loop_leaves_out():
    """Of a stall of 3 s in 10, one caller who waits sees one late call; those who come meanwhile are late, too."""
    stalled = lambda: OneAtATime(stall_from=4, stall_seconds=3)  # noqa: E731

    assert closed(stalled, 1).percentile(90) < 2 * RUN_SECONDS
    assert opened(stalled, 5).percentile(90) > 2


def test_open_loop_calls_on_until_measured_calls_are_answered():
    """The last of the measured calls have the same company as the others."""
    found = opened(lambda: OneAtATime(stall_from=10, stall_seconds=3), 5)

    assert sum(found.codes.values()) > len(found.latencies) + 5 + 5


def test_sweep_doubles_until_saturated():
    """More callers of a service that runs one call at a time gain nothing, so three steps tell."""
    steps = swept(OneAtATime)

    assert [1, 2, 4] == [each.callers for each in steps]


def test_sweep_takes_the_steps_it_is_given():
    """Steps that were asked for are all run, each call with a number of its own."""
    made = []

    def make():
        made.append(OneAtATime())
        return made[0]

    steps = swept(make, callers=(3, 1, 1, 1))

    assert [3, 1, 1, 1] == [each.callers for each in steps]
    assert list(range(len(made[0].numbers))) == made[0].numbers


def test_sweep_turns_images_into_calls():
    """A rate is one of images; calls that bring four are made at a quarter of it."""
    steps = swept(OneAtATime, rates=(8,), images_per_call=4)

    assert pytest.approx(2 * 11, rel=0.5) == sum(steps[0].codes.values())
    assert 8 == steps[0].offered


def test_sweep_keeps_what_it_had_when_it_was_cut():
    """An interrupt loses nothing: the step in flight counts with the seconds it had."""

    async def play():
        sweep = Sweep(OneAtATime(), Schedule(window=WINDOW), lambda step: None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(16):
                await sweep.run()
        sweep.interrupt()
        return sweep.steps

    whole, part = run_virtually(play())

    assert whole.complete
    assert not part.complete
    assert pytest.approx(16 - 11 - 1, abs=2 * RUN_SECONDS) == part.seconds
    assert pytest.approx(10, abs=0.3) == part.images_per_second


def test_plan_takes_the_fastest_step_that_keeps_the_latency():
    """Faster steps that are too late, or that failed calls, do not count."""
    steps = [step(4, 0.2), step(6, 0.4, callers=2), step(7, 0.6), step(8, 0.4, codes={"OK": 9, "UNAVAILABLE": 1})]
    plan = Plan.make(steps, target(12))

    assert 2 == plan.step.callers
    assert 2 + 1 == plan.replicas


@pytest.mark.parametrize(
    ("fields", "replicas"),
    [
        ({}, 10 + 1),
        ({"headroom": 0.5}, 20 + 1),
        ({"headroom": 0.3}, 15 + 1),
        ({"measured_replicas": 2}, 20 + 1),
        ({"images_per_second": 0.1}, 1 + 1),
        ({"images_per_second": 100.1}, 11 + 1),
    ],
)
def test_plan_counts_replicas(fields, replicas):
    """Of replicas that make 10 images/s each, 100 images/s take 10, more with headroom, and one for a restart."""
    plan = Plan.make([step(10)], target(fields.pop("images_per_second", 100), **fields))

    assert replicas == plan.replicas
    assert 0 == plan.gpus


def test_plan_explains_itself():
    """The two lines have every number that the answer rests on."""
    plan = Plan.make([step(10, 0.25, callers=4)], target(100, headroom=0.3, gpus_per_replica=2))

    assert (
        "A replica makes 10 images/s with a p99 of 250 ms (at 4 callers, 1 measured); with 30% of it free, 7; "
        "callers that wait flatter the p99: try --open 7.\n"
        "100 images/s within 500 ms take 15 replicas, and one for a rolling restart: 16 replicas, 32 GPUs."
    ) == plan.explain()


def test_plan_of_an_open_loop_needs_no_advice():
    """A rate that was offered at random moments is what users see."""
    plan = Plan.make([step(7, callers=None, offered=7.5)], target(7))

    assert "(at 7.5 images/s offered, 1 measured)" in plan.explain()
    assert "flatter" not in plan.explain()


def test_plan_needs_a_step_that_is_good_enough():
    """If no step keeps the latency, more replicas would not either, and no number is given."""
    assert Plan.make([step(10, 0.9)], target(1)) is None
    assert Plan.make([], target(1)) is None
