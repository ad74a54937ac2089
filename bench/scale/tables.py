"""The tables as text."""

from collections.abc import Sequence

from scale.limits import Limit
from scale.reality import Compared
from scale.steady import UTILIZATIONS, Point
from scale.study import Day
from scale.trouble import Trouble


def print_reality(found: Sequence[Compared]) -> None:
    """Measured beside simulated, with the range of simulated stretches as long as the measured one."""
    print(f"  {'load':46s} {'calls':>5s} {'p50 ms':>7s} {'simulated':>17s} {'p99 ms':>7s} {'simulated':>20s}")
    for each in found:
        print(
            f"  {each.name:42s} {each.utilization:3.0%} {each.calls:5d} {each.p50_seconds * 1e3:7.0f} "
            f"{_range(each.simulated_p50_seconds):>17s} {each.p99_seconds * 1e3:7.0f} "
            f"{_range(each.simulated_p99_seconds):>20s}"
        )
    print(f"  p50 and p99 both within 90 % of what was simulated: {sum(each.within for each in found)} of {len(found)}")


def print_steady(points: Sequence[Point]) -> None:
    """The p50 and p99 in milliseconds, a row for a policy and a size; refusals where there are any."""
    print(f"  {'p50 / p99 ms at a utilization of':34s}" + "".join(f"{each:>22.0%}" for each in UTILIZATIONS))
    for replicas, policy in dict.fromkeys((each.replicas, each.policy) for each in points):
        row = [each for each in points if (each.replicas, each.policy) == (replicas, policy)]
        cells = [
            f"{each.p50_seconds * 1e3:.0f} / {each.p99_seconds * 1e3:.0f}"
            + (f" ({each.refused:.1%})" if each.refused else "")
            for each in row
        ]
        print(f"  {policy:16s} {replicas:>8,} replicas" + "".join(f"{cell:>22s}" for cell in cells))


def print_troubles(found: Sequence[Trouble]) -> None:
    """What an event did to calls."""
    print(
        f"  {'event':20s} {'policy':14s} {'s':>6s} {'p99 before':>11s} {'during':>9s}   calls, retried, refused, failed"
    )
    for each in found:
        print(
            f"  {each.name:20s} {each.policy:14s} {each.seconds:6.0f} {each.before_p99_seconds * 1e3:8.0f} ms "
            f"{each.p99_seconds * 1e3:6.0f} ms   {each.calls}, {each.retried}, {each.refused}, {each.failed}"
        )


def print_days(found: Sequence[Day]) -> None:
    """What a day cost and gave."""
    print(f"  {'replicas':>8s} {'rules':8s} {'target':>7s} {'hours/static':>13s} {'missed':>8s} {'refused':>8s}  most")
    for each in found:
        account = each.account
        print(
            f"  {each.static:8,d} {each.rules:8s} {each.target_seconds:5.1f} s "
            f"{account.replica_hours / (24 * each.static):13.2f} {account.missed:8.2%} "
            f"{account.refused / account.calls:8.2%}  {max(account.ready):,}"
        )


def print_limits(found: Sequence[Limit], sizes: Sequence[int]) -> None:
    """What breaks, in the order in which it does."""
    print(f"  {'':62s}" + "".join(f"{size:>10,}" for size in sizes) + "   breaks at")
    for each in sorted(found, key=lambda limit: limit.breaks_at):
        values = "".join(f"{each.value(size):>10.3g}" for size in sizes)
        print(f"  {f'{each.name}, {each.unit}':62s}{values}   {each.breaks_at:,} (above {each.most:g}): {each.cure}")


def _range(seconds: Sequence[float]) -> str:
    low, middle, high = (each * 1e3 for each in seconds)
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"
