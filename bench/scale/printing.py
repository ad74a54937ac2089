"""The tables as text."""

from collections.abc import Sequence

from interleave import Spread
from scale.failures import Failure
from scale.limits import Limit
from scale.reality import Compared
from scale.steady import UTILIZATIONS, Point
from scale.study import Day
from tables import Table

_INDENT = "  "


def print_reality(found: Sequence[Compared]) -> None:
    """Print measured beside simulated, with the range of simulated stretches as long as the measured one."""
    columns = ("server:<42", "load:>", "calls:>", "p50 ms:>7", "simulated:>18", "p99 ms:>7", "simulated:>20")
    table = Table(*columns, indent=_INDENT)
    rows = (
        (
            each.name,
            f"{each.utilization:.0%}",
            each.calls,
            _milliseconds(each.p50_seconds),
            _range(each.simulated_p50_seconds),
            _milliseconds(each.p99_seconds),
            _range(each.simulated_p99_seconds),
        )
        for each in found
    )
    print(table.text(rows))
    print(f"  p50 and p99 both within 90 % of what was simulated: {sum(each.within for each in found)} of {len(found)}")


def print_steady(points: Sequence[Point]) -> None:
    """Print p50 and p99 in milliseconds, a row for a policy and a size; refusals where there are any."""
    table = Table("p50 / p99 ms at a utilization of:<", *(f"{each:.0%}:>22" for each in UTILIZATIONS), indent=_INDENT)
    table.print_headings()
    for replicas, policy in dict.fromkeys((each.replicas, each.policy) for each in points):
        row = [each for each in points if (each.replicas, each.policy) == (replicas, policy)]
        cells = [
            f"{_milliseconds(each.p50_seconds)} / {_milliseconds(each.p99_seconds)}"
            + (f" ({each.refused:.1%})" if each.refused else "")
            for each in row
        ]
        table.print_row(f"{policy}, {replicas:,} replicas", *cells)


def print_failures(found: Sequence[Failure]) -> None:
    """Print what an event did to calls."""
    counts = ("calls:>7", "retried:>", "refused:>", "failed:>")
    table = Table("event:<20", "policy:<14", "s:>6", "p99 ms before:>", "during:>9", *counts, indent=_INDENT)
    rows = (
        (
            each.name,
            each.policy,
            f"{each.seconds:.0f}",
            _milliseconds(each.before_p99_seconds),
            _milliseconds(each.p99_seconds),
            *(each.calls, each.retried, each.refused, each.failed),
        )
        for each in found
    )
    print(table.text(rows))


def print_days(found: Sequence[Day]) -> None:
    """Print what a day cost, and how many calls it missed."""
    quantities = ("target:>", "hours/static:>", "missed:>7", "refused:>", "most:>6")
    table = Table("replicas:>", "rules:<7", *quantities, indent=_INDENT)
    rows = (
        (
            f"{each.static:,}",
            each.rules,
            f"{each.target_seconds:.1f} s",
            f"{each.account.replica_hours / (24 * each.static):.2f}",
            f"{each.account.missed:.2%}",
            f"{each.account.refused / each.account.calls:.2%}",
            f"{max(each.account.ready):,}",
        )
        for each in found
    )
    print(table.text(rows))


def print_limits(found: Sequence[Limit], sizes: Sequence[int]) -> None:
    """Print what breaks, in the order in which it does."""
    limit = ("breaks at:>10", "above:>9", "then:<")
    table = Table("replicas:<62", *(f"{size:,}:>8" for size in sizes), *limit, indent=_INDENT)
    rows = (
        (
            f"{each.name}, {each.unit}",
            *(f"{each.value(size):.3g}" for size in sizes),
            f"{each.breaks_at:,}",
            f"{each.most:g}",
            each.cure,
        )
        for each in sorted(found, key=lambda limit: limit.breaks_at)
    )
    print(table.text(rows))


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.0f}"


def _range(seconds: Sequence[float]) -> str:
    low, middle, high = (each * 1e3 for each in seconds)
    return f"{Spread(median=middle, least=low, most=high):.0f}"
