"""A service of 10 to 10,000 replicas, from what one costs: ``make bench-scale``.

What it leaves out: calls have one row each and no deadlines; balancers know at once who is up; nodes are there when a
replica wants one; Prometheus and an API server respond at once. What was measured and what is assumed is printed.
"""

import argparse
import dataclasses
import gc
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scale import printing, reality, study
from scale.costs import COSTS, Cost
from scale.day import Start
from scale.inputs import Assumptions
from scale.limits import MEASURED, limits
from scale.steady import Profile
from serving import models
from tables import write_json

_LEAST_CALLS, _QUICK_CALLS = 100_000, 5_000
_TABLES = ("reality", "steady", "failures", "days", "limits")
_FORMER_NAMES = {"troubles": "failures"}


def main() -> None:
    """Print the tables that were asked for; draw them; write them as JSON."""
    options = _read_options()
    gc.disable()  # nothing here is cyclic, and looking for cycles in a million calls takes half of the time
    cost, assumed, start, sizes = options.cost, options.assume, options.start, options.sizes
    print(f"{cost}\n{MEASURED}\n{assumed}\n{start}", flush=True)
    makers: dict[str, tuple[Callable[[], Sequence[Any]], Callable[[Any], None]]] = {
        "reality": (lambda: _reality(options.seconds), printing.print_reality),
        "steady": (lambda: study.steady(cost, sizes, options.calls), printing.print_steady),
        "failures": (lambda: study.failures(cost, options.failure_size, start), printing.print_failures),
        "days": (lambda: study.days(cost, Profile.of(cost), sizes, start), printing.print_days),
        "limits": (lambda: limits(MEASURED, assumed, start), lambda found: printing.print_limits(found, sizes)),
    }
    made: dict[str, Sequence[Any]] = {}
    for name in options.tables:
        started = time.monotonic()
        make, show = makers[name]
        made[name] = make()
        print(f"\n{name} ({time.monotonic() - started:.0f} s)")
        show(made[name])
    if options.json:
        facts = {name: [_facts(each) for each in rows] for name, rows in made.items() if name != "limits"}
        write_json(options.json, {"cost": _facts(cost), **facts})
    if options.plot:
        from scale.plot import draw  # noqa: PLC0415 - matplotlib is in a group of its own

        draw(options.plot, cost, made["steady"], made["days"], made["limits"])
        print(f"\ndrawn to {options.plot}")


def _reality(seconds: float) -> list[reality.Compared]:
    return [
        *reality.sleeping(row_ms=60, fixed_ms=0, batch=1, seconds=seconds),
        *reality.sleeping(row_ms=30, fixed_ms=60, batch=8, seconds=seconds),
        *reality.network(models.demo(), seconds),
    ]


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scale", description=__doc__)
    parser.add_argument("tables", nargs="*", help=f"of {' '.join(_TABLES)}; by default all but reality")
    costs = f"of {', '.join(COSTS)}, or a file: a report of stylewire bench --json, or the fields of a cost"
    parser.add_argument("--cost", type=_read_cost, default=COSTS["cpu256"], help=costs)
    parser.add_argument("--assume", type=Assumptions.read, default=Assumptions(), help="JSON file of what differs")
    parser.add_argument("--start", type=_read_start, default=Start(), help="the same of what a new replica waits for")
    parser.add_argument("--sizes", type=_read_sizes, default=(10, 100, 1_000, 10_000), help="replicas, such as 10,100")
    parser.add_argument(
        "--failure-size", "--trouble-size", type=int, default=100, help="replicas of the table of failures"
    )
    parser.add_argument("--quick", action="store_const", dest="calls", const=_QUICK_CALLS, default=_LEAST_CALLS)
    parser.add_argument("--seconds", type=float, default=20.0, help="of a measurement of reality")
    parser.add_argument("--plot", type=Path, help="draw steady, days and limits here")
    parser.add_argument("--json", type=Path, help="also write the tables here")
    options = parser.parse_args()
    options.tables = [_FORMER_NAMES.get(name, name) for name in options.tables] or _TABLES[1:]
    if unknown := set(options.tables) - set(_TABLES):
        parser.error(f"unknown tables {', '.join(sorted(unknown))}; there are {' '.join(_TABLES)}")
    if options.plot and not {"steady", "days", "limits"} <= set(options.tables):
        parser.error("--plot draws steady, days and limits; ask for them")
    return options


def _read_cost(text: str) -> Cost:
    return COSTS[text] if text in COSTS else Cost.read(Path(text))


def _read_start(text: str) -> Start:
    return Start(**json.loads(Path(text).read_text(encoding="utf-8")))


def _read_sizes(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _facts(row: Any) -> dict[str, Any]:
    """Everything but what has a value for every second."""
    found = dataclasses.asdict(row)
    if "account" in found:
        found["account"] = {name: value for name, value in found["account"].items() if not isinstance(value, list)}
    return found


if __name__ == "__main__":
    main()
