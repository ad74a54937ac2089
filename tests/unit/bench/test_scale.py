import heapq
import random
from dataclasses import replace

import numpy as np
import pytest

from scale.balancing import LeastRequest, PickFirst, RoundRobin
from scale.cluster import Cluster, Patience, poisson
from scale.costs import COSTS, Cost
from scale.day import Fleet, Start, live
from scale.inputs import Assumptions
from scale.limits import MEASURED, Limit, limits
from scale.scaler import Limits, Policy, Scaler
from scale.steady import Profile, Scene, simulate
from stylewire.errors import OverloadedError
from stylewire.server.engine.batching.batch import QueuedRequest
from stylewire.server.engine.batching.limits import BatchLimits
from stylewire.server.engine.batching.scheduler import Scheduler

RUN_SECONDS = 0.2
ONE = Cost(name="one row at a time", origin="", fixed_seconds=0.0, row_seconds=RUN_SECONDS, max_queue_seconds=1e6)
BATCHES = Cost(name="batches", origin="", fixed_seconds=0.02, row_seconds=0.01, max_batch_size=8)
COSTS_OF_SCHEDULERS = {
    "one row at a time": replace(ONE, max_queue_seconds=1.03),
    "batches": replace(BATCHES, max_queue_seconds=0.317),
    "instances": replace(BATCHES, instances=2, alone_seconds=0.02, max_queue_seconds=0.233),
}


def one_client(replicas, chance):
    return RoundRobin(replicas, 1, chance)


class Future:
    def done(self):
        return False


class RealScheduler:
    """The server's own scheduler in simulated time: what it starts, and whom it refuses."""

    def __init__(self, cost):
        self.started, self.refused, self.now = [], 0, 0.0
        bounds = BatchLimits(
            max_batch_size=cost.max_batch_size,
            max_batch_seconds=1e9,
            max_queue_seconds=cost.max_queue_seconds,
            instances=cost.instances,
            exclusive=cost.alone_seconds is not None,
        )
        self._scheduler = Scheduler("graph", bounds, lambda: self.now)
        for size in (1, 2, 8):
            self._scheduler.costs.learn(size, cost.batch_seconds(size))
            if cost.alone_seconds is not None:  # more rows than one are sooner through side by side
                self._scheduler.exclusive_costs.learn(size, cost.alone_seconds * size)
        for costs in (self._scheduler.costs, self._scheduler.exclusive_costs):
            costs.learn = lambda size, seconds: None  # of one size alone it would forget what the others cost
        self._prepared, self._ends = [], []

    def play(self, moments):
        for moment in moments:
            self._until(moment)
            self.now = moment
            entry = QueuedRequest({"z": np.zeros((1, 1), np.float32)}, frozenset(), 1, None, moment, Future())
            try:
                self._scheduler.push(entry)
            except OverloadedError:
                self.refused += 1
            self._fill()
        self._until(float("inf"))

    def _until(self, moment):
        while self._ends and self._ends[0][0] <= moment:
            self.now, _, batch = heapq.heappop(self._ends)
            self._scheduler.finish(batch)
            self._fill()

    def _fill(self):
        while True:
            if self._prepared and self._scheduler.can_start(self._prepared[0]):
                self._start(self._prepared.pop(0))
            elif batch := self._scheduler.take():
                self._prepared.append(batch)
            else:
                return

    def _start(self, batch):
        self._scheduler.start(batch)
        costs = self._scheduler.exclusive_costs if batch.exclusive else self._scheduler.costs
        heapq.heappush(self._ends, (self.now + costs.predict(batch.size), len(self.started), batch))
        self.started.append((self.now, batch.size))


def test_simulation_agrees_with_queueing_theory():
    """One replica without batches is an M/D/1 queue: the mean wait is that of Pollaczek and Khinchine."""
    for utilization in (0.5, 0.7, 0.8):
        rate = utilization / RUN_SECONDS
        found = Cluster(ONE, 1, one_client).run(poisson(rate, 60_000 / rate, 1), warm_up_seconds=60)
        expected = RUN_SECONDS * utilization / (2 * (1 - utilization))

        assert pytest.approx(expected, rel=0.05) == np.mean(found.seconds) - RUN_SECONDS


def test_simulation_has_no_wait_without_chance():
    """Calls that come regularly, and no more than can be done, wait for nobody."""
    arrivals = ((index * RUN_SECONDS / 2, 0) for index in range(1000))
    found = Cluster(ONE, 2, one_client).run(arrivals)

    assert pytest.approx(RUN_SECONDS) == found.percentile(100)


def test_simulation_repeats_itself():
    """The same seed gives the same course."""
    scene = Scene(cost=replace(BATCHES, deviation=0.3), replicas=3, policy="least_request", utilization=0.8)

    assert list(simulate(scene, 2000).seconds) == list(simulate(scene, 2000).seconds)


@pytest.mark.parametrize("utilization", [0.5, 0.9, 1.5])
@pytest.mark.parametrize("name", COSTS_OF_SCHEDULERS)
def test_replica_behaves_as_the_scheduler(name, utilization, monkeypatch):
    """The same calls give the same batches, at the same moments, and the same refusals as in the server's scheduler."""
    cost, started = COSTS_OF_SCHEDULERS[name], []
    arrivals = list(poisson(utilization * cost.images_per_second, 2000 / cost.images_per_second, 1, seed=3))
    real = RealScheduler(cost)
    real.play([moment for moment, _ in arrivals])
    cluster = Cluster(cost, 1, one_client)
    take = type(cluster.replicas[0]).take

    def noted(replica, now):
        batch = take(replica, now)
        if batch is not None:
            started.append((now, len(batch.calls)))
        return batch

    monkeypatch.setattr(type(cluster.replicas[0]), "take", noted)
    found = cluster.run(iter(arrivals))

    assert [size for _, size in real.started] == [size for _, size in started]
    assert pytest.approx([moment for moment, _ in real.started]) == [moment for moment, _ in started]
    assert real.refused == found.refused
    assert found.refused > 0 or utilization < 1


def test_balancers_differ_as_their_knowledge_does():
    """Who knows more waits less: a connection by chance, turns, the less busy of two."""
    p99 = {
        policy: simulate(Scene(cost=ONE, replicas=20, policy=policy, utilization=0.7), 20_000).percentile(99)
        for policy in ("pick_first", "round_robin", "least_request")
    }

    assert p99["least_request"] < p99["round_robin"] < p99["pick_first"]


def test_balancers_pass_by_who_is_down():
    """No policy chooses a replica that is down, and none of them has an answer when all are."""
    cluster = Cluster(ONE, 4, one_client)
    policies = [
        PickFirst(cluster.replicas, 9, random.Random(0)),
        RoundRobin(cluster.replicas, 9, random.Random(0)),
        LeastRequest(cluster.replicas, random.Random(0)),
    ]
    for up in ({1, 3}, set()):
        for number, replica in enumerate(cluster.replicas):
            replica.up = number in up
        for policy in policies:
            policy.changed()

            assert (up or {None}) == {policy.choose(client) for client in range(9) for _ in range(20)}


@pytest.mark.parametrize(("tries", "failed"), [(4, 0), (1, 8 + 1)])
def test_killed_replica_loses_what_it_had(tries, failed):
    """Its calls are sent again to others, and fail only if nobody tries again."""
    cluster = Cluster(BATCHES, 2, one_client, patience=Patience(tries=tries))
    cluster.at(0.01, cluster.kill, 0, 1.0)
    arrivals = [(index * 1e-4, 0) for index in range(18)]
    found = cluster.run(iter(arrivals))

    assert failed == found.failed
    assert 18 == found.calls
    assert (0 if failed else 9) == found.retried


def test_drained_replica_finishes_what_it_has():
    """A replica that stops gets no more calls, and nobody notices."""
    cluster = Cluster(BATCHES, 2, one_client)
    cluster.at(0.01, cluster.drain, 0, 100.0)
    found = cluster.run(iter([(index * 0.005, 0) for index in range(100)]))

    assert (100, 0, 0) == (len(found.seconds), found.failed, found.retried)


def test_refused_callers_may_come_back():
    """Whoever comes back when the server says is refused less often."""
    arrivals = list(poisson(2 / RUN_SECONDS, 20, 1))
    cost = replace(ONE, max_queue_seconds=1.0)
    impatient = Cluster(cost, 1, one_client).run(iter(arrivals))
    patient = Cluster(cost, 1, one_client, patience=Patience(refusal_tries=20)).run(iter(arrivals))

    assert 0 < patient.refused < impatient.refused
    assert patient.retried > 0


def report(callers_and_batches, saturated=None):
    steps = [
        {
            "callers": callers,
            "complete": True,
            "seconds": 10.0,
            "batches": batches,
            "inference_ms": batches[-1]["inference_ms"],
            "queue_ms": 1.0,
            "latency_mean_ms": batches[-1]["inference_ms"] + 4.0,
            "images_per_second": sum(each["answers"] for each in batches) / 10.0,
        }
        for callers, batches in callers_and_batches
    ]
    model = {"name": "m", "resolution_px": 64, "backend": "b", "device": "cpu"}
    return {"steps": steps, "saturated_at_callers": saturated, "model": model}


def batch(size, answers, inference_ms, deviation_ms=0.0):
    return {"size": size, "answers": answers, "inference_ms": inference_ms, "deviation_ms": deviation_ms}


def test_cost_is_fitted_to_a_report():
    """Batches of 20 ms and 10 ms a row, one after the other, are recognized as such."""
    cost = Cost.from_report(report([(1, [batch(1, 300, 30)]), (8, [batch(4, 10, 60), batch(8, 720, 100)])]))

    assert pytest.approx((0.02, 0.01)) == (cost.fixed_seconds, cost.row_seconds)
    assert (1, None, 8) == (cost.instances, cost.alone_seconds, cost.max_batch_size)
    assert pytest.approx(0.003) == cost.overhead_seconds


def test_cost_counts_instances():
    """Twice as many batches as fit one after the other ran side by side; a row alone had both instances."""
    cost = Cost.from_report(report([(1, [batch(1, 400, 25)]), (8, [batch(1, 10, 40), batch(4, 800, 100)])]))

    assert (2, 0.025) == (cost.instances, cost.alone_seconds)


def test_cost_bounds_batches_as_the_server_does():
    """A batch runs for a quarter of a second at most, by default."""
    assert 1 == Cost.from_report(report([(1, [batch(1, 50, 194)])])).max_batch_size


def test_cost_is_no_faster_than_what_was_measured():
    """A saturated replica that made less than its batches promise spent the rest between them."""
    steps = [(1, [batch(1, 300, 30)]), (8, [batch(4, 20, 60), batch(8, 640, 100)])]
    cost = Cost.from_report(report(steps, saturated=8))

    assert pytest.approx(66) == cost.images_per_second
    assert pytest.approx(2) == cost.fixed_seconds / cost.row_seconds


def test_cost_needs_a_closed_loop():
    """A report of rates only says too little about what a batch costs."""
    with pytest.raises(ValueError, match="closed loop"):
        Cost.from_report(report([]))


def test_scaler_wants_the_backlog_over_the_target():
    """The HPA's rule for a sum: so many replicas that each has the target, and none within the tolerance."""
    policy = Policy(target_seconds=2, most=100, up=Limits(percent=1000, pods=100, period_seconds=60))

    assert 15 == Scaler(policy).decide(0, 10, 30)
    assert 10 == Scaler(policy).decide(0, 10, 21.9)
    assert 100 == Scaler(policy).decide(0, 10, 1e6)


def test_scaler_grows_within_its_limits():
    """At most double, or two, within a minute."""
    scaler = Scaler(Policy(target_seconds=1, most=1000))

    assert 8 == scaler.decide(0, 4, 1000)
    assert 8 == scaler.decide(30, 8, 1000)
    assert 16 == scaler.decide(61, 8, 1000)
    assert 3 == Scaler(Policy(target_seconds=1, most=1000)).decide(0, 1, 1000)


def test_scaler_shrinks_late_and_slowly():
    """Only to the largest number that was wanted within 300 s, and by one in 120 s."""
    scaler = Scaler(Policy(target_seconds=1, most=100))
    scaler.decide(0, 10, 10)

    assert [10] * 20 == [scaler.decide(15 * k, 10, 0) for k in range(1, 21)]
    assert 9 == scaler.decide(315, 10, 0)
    assert 9 == scaler.decide(330, 9, 0)
    assert 8 == scaler.decide(436, 9, 0)


def test_start_shares_the_store():
    """Ten replicas that read at once take ten times as long as one, from a store that one can saturate."""
    start = Start(schedule_seconds=2, process_seconds=3, weights_bytes=100e6, store_bytes_per_second=50e6)

    assert (7, 25) == (start.seconds(1), start.seconds(10))
    for count, expected in ((1, 7), (10, 25)):
        fleet, ticks = Fleet(start, 0), 0
        fleet.resize(count)
        while fleet.ready < count:
            fleet.tick()
            ticks += 1

        assert expected == ticks


def test_fleet_gives_up_what_starts_first():
    """A replica that is not ready yet is the cheapest to stop."""
    fleet = Fleet(Start(), 4)
    fleet.resize(7)
    fleet.resize(5)

    assert (4, 5) == (fleet.ready, fleet.size)
    fleet.resize(3)
    assert (3, 3) == (fleet.ready, fleet.size)
    fleet.lose(1)
    assert (2, 3) == (fleet.ready, fleet.size)


def test_day_agrees_with_the_simulation_of_every_call():
    """A spike of a minute at 1.1 times the capacity makes as many calls late, tick by tick as call by call."""
    cost, replicas, promise = replace(COSTS["cpu256"], deviation=0.0), 20, 1.5
    capacity = replicas * cost.images_per_second
    rate = lambda now: (1.1 if 120 <= now < 180 else 0.6) * capacity  # noqa: E731
    fixed = Policy(least=replicas, most=replicas)
    profile = Profile.of(cost, replicas=replicas, policy="least_request", least_calls=5000)
    account = live(cost, profile, rate, fixed, start=Start(), first=replicas, promise_seconds=promise, seconds=600)

    chance = np.random.default_rng(5)
    moments = np.sort(np.concatenate([second + chance.random(chance.poisson(rate(second))) for second in range(600)]))
    cluster = Cluster(cost, replicas, LeastRequest)
    found = cluster.run((float(moment), 0) for moment in moments)
    late = float(np.mean(np.frombuffer(found.seconds) > promise))

    assert 0 == found.refused == account.refused
    assert pytest.approx(late, abs=0.03) == account.missed
    assert late > 0.08


def test_limits_say_where_they_break():
    """The number of replicas at which something breaks is the first that is too many."""
    found = Limit(name="", unit="", value=lambda replicas: 2.0 * replicas, most=100, cure="")

    assert 51 == found.breaks_at


def test_limits_have_the_settings_that_ship():
    """Of what the manifests say, one replica at a time is what a large service suffers from first."""
    found = {each.name: each.breaks_at for each in limits(MEASURED, Assumptions(), Start())}

    assert 4090 == found["headless Service: addresses in one DNS answer"]
    assert found["rolling restart, maxSurge 1"] < 1000
