"""Servers that come and go under load, through Envoy and without: ``make bench-cluster``. A benchmark is never a test.

The stories are those of ``tests/cluster``, with more calls; what is printed is also written as JSON.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from support.cluster_stories import CALLERS, WAYS, Outcome, kill, rolling_restart, scale_up, slow_server
from tables import Table, write_json

_NUMBERS = ("sent", "failed", "retried", "refused", "in flight", "doubled", "slowest")
TABLE = Table(*(f"{heading}:>9" for heading in ("way", *_NUMBERS)))


def to_row(outcome: Outcome) -> tuple[object, ...]:
    """Convert an outcome to a row of the table."""
    sent, failed = outcome.sent, len(outcome.errors)
    rest = (outcome.retried, outcome.refused, outcome.in_flight, outcome.doubled)
    return outcome.way, sent, failed, *rest, f"{outcome.longest_seconds:.2f} s"


def table(title: str, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Print what became of calls; return the same for JSON."""
    print(f"{title}, {CALLERS} callers\n{TABLE.text(map(to_row, outcomes))}", flush=True)
    return [dataclasses.asdict(each) | {"errors": [str(error) for error in each.errors]} for each in outcomes]


def divided(title: str, play: Callable[[str], list[int]]) -> dict[str, list[int]]:
    """Print how many calls each server received; return the same for JSON."""
    shares = {way: play(way) for way in WAYS}
    count = max(map(len, shares.values()))
    servers = Table("way:>9", *(f"server {number}:>9" for number in range(1, count + 1)))
    print(f"{title}\n{servers.text((way, *calls) for way, calls in shares.items())}", flush=True)
    return shares


def main() -> int:
    """Play all stories; the exit code says whether a call failed."""
    parser = argparse.ArgumentParser(prog="scale.rollouts", description=__doc__)
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--calls", type=int, default=500, help="before each event, and after it")
    parser.add_argument("--out", type=Path, default=Path("build/bench/cluster.json"))
    options = parser.parse_args()
    given = {"servers": options.servers, "calls": options.calls}
    rolled, killed = [rolling_restart(way, **given) for way in WAYS], [kill(way, **given) for way in WAYS]
    grown = [scale_up(way) for way in WAYS]
    measured = {
        "rolling restart": table(f"rolling restart of {options.servers} servers", rolled),
        "kill": table(f"kill -9 of one of {options.servers} servers", killed),
        "scale up": table("from 1 server to 4", [outcome for outcome, _ in grown]),
        "slow server": divided(
            "2 servers, the first one running for a tenth of the time: calls of each",
            lambda way: slow_server(way, calls=options.calls),
        ),
    }
    write_json(options.out, measured)
    return 1 if any(outcome.errors for outcome in (*rolled, *killed, *(each for each, _ in grown))) else 0


if __name__ == "__main__":
    sys.exit(main())
