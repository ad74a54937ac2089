"""The tables as one picture."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from scale.costs import Cost
from scale.limits import Limit
from scale.steady import Point
from scale.study import Day

_STYLES = {"pick_first": "tab:red", "round_robin": "tab:blue", "least_request": "tab:green"}
_RULES = {"shipped": "tab:orange", "percent": "tab:purple"}
_SPIKE_REPLICAS = 1_000
"""The largest service of no more than these is drawn in its spike."""
_LINES = ("-", "--", "-.", ":")


def draw(path: Path, cost: Cost, points: Sequence[Point], days: Sequence[Day], found: Sequence[Limit]) -> None:
    """Write four panels: latency, cost, a spike, and what breaks."""
    figure, ((latency, price), (spike, breaks)) = plt.subplots(2, 2, figsize=(13, 9), constrained_layout=True)
    _draw_latency(latency, cost, points)
    _draw_price(price, days)
    _draw_spike(spike, cost, days)
    _draw_limits(breaks, found)
    figure.suptitle(f"{cost.name}; {cost.origin}", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_latency(axes: Axes, cost: Cost, points: Sequence[Point]) -> None:
    run, sizes = cost.batch_seconds(cost.max_batch_size), sorted({each.replicas for each in points})
    for policy, color in _STYLES.items():
        for size, line in zip(sizes, _LINES, strict=False):
            row = [each for each in points if (each.policy, each.replicas) == (policy, size)]
            axes.plot(
                [each.utilization for each in row],
                [each.p99_seconds / run for each in row],
                line,
                color=color,
                label=f"{policy}, {size:,}",
            )
    axes.set(xlabel="utilization", ylabel="p99 over the run of a batch", yscale="log", title="Latency by balancing")
    axes.set_ylim(bottom=1)
    axes.legend(fontsize=7, ncols=3, loc="lower right")
    axes.grid(alpha=0.3)


def _draw_price(axes: Axes, days: Sequence[Day]) -> None:
    sizes = sorted({each.static for each in days})
    for rules, color in _RULES.items():
        for size, line in zip(sizes, _LINES, strict=False):
            row = [each for each in days if (each.rules, each.static) == (rules, size)]
            hours = [each.account.replica_hours / (24 * size) for each in row]
            missed = [100 * each.account.missed for each in row]
            axes.plot(hours, missed, line, marker="o", markersize=3, color=color, label=f"{rules}, {size:,}")
            for each, x, y in zip(row, hours, missed, strict=True):
                if (rules, size) == ("percent", sizes[0]):
                    axes.annotate(f"{each.target_seconds:g} s", (x, y), fontsize=7)
    axes.axvline(1, color="gray", linewidth=0.8)
    axes.set(
        xlabel="replica-hours over those of a static service",
        ylabel="calls late or refused, %",
        yscale="log",
        title="A day with a spike, by the autoscaler's target",
    )
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)


def _draw_spike(axes: Axes, cost: Cost, days: Sequence[Day]) -> None:
    *_, size = (each.static for each in days if each.static <= _SPIKE_REPLICAS)
    start, stop = 13 * 3600 + 1800, 16 * 3600
    hours = [second / 3600 for second in range(start, stop)]
    some = [each for each in days if each.static == size and each.target_seconds in {0.2, 2.0}]
    for each in some:
        line = "-" if each.target_seconds < 1 else "--"
        label = f"{each.rules}, {each.target_seconds:g} s"
        axes.plot(hours, each.account.ready[start:stop], line, color=_RULES[each.rules], label=label)
    needed = [rate / cost.images_per_second for rate in some[0].account.offered[start:stop]]
    axes.plot(hours, needed, color="black", linewidth=1, label="load, in replicas")
    axes.set(xlabel="hour of the day", ylabel="replicas ready", title=f"The spike, {size:,} replicas when static")
    axes.legend(fontsize=7)
    axes.grid(alpha=0.3)


def _draw_limits(axes: Axes, found: Sequence[Limit]) -> None:
    counts = [10 ** (exponent / 10) for exponent in range(10, 41)]
    for each in sorted(found, key=lambda limit: limit.breaks_at):
        axes.plot(counts, [each.ratio(round(count)) for count in counts], label=f"{each.breaks_at:,}: {each.name}")
    axes.axhline(1, color="gray", linewidth=0.8)
    axes.set(
        xlabel="replicas", ylabel="over its limit", xscale="log", yscale="log", title="What breaks first, and where"
    )
    axes.legend(fontsize=6.5)
    axes.grid(alpha=0.3)
