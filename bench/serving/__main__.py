"""The speed and the manners of the server: ``make bench-serving``. A benchmark is never a test."""

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

from serving import h2load, measurements, path
from serving.measurements import Row
from tables import Table, write_json

TABLE = Table("measured:<48", "median (range):<", indent="  ")


def processor() -> str:
    """Name the processor, what it can, and how many cores there are."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "")
    flags = next((line for line in info if line.startswith("flags")), "")
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if unit in flags.split()]
    return f"{name or platform.machine()} ({', '.join(units)}), {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    """Print the tables that were asked for; write them as JSON where asked."""
    parser = argparse.ArgumentParser(prog="serving", description=__doc__)
    parser.add_argument("tables", nargs="*", help="of: efficiency64 efficiency256 overload64 ... ; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement at 64 px")
    parser.add_argument("--base", type=Path, help="service/ of a checkout without tracing, for the table tracing")
    parser.add_argument("--json", type=Path, help="also write the tables here")
    parser.add_argument("--sequence", action="store_true", help="path: also print all calls in their order")
    options = parser.parse_args()
    rounds, seconds = options.rounds, options.seconds
    makers: dict[str, Callable[[], list[Row]]] = {
        "efficiency64": lambda: measurements.efficiency(64, rounds, seconds),
        "efficiency256": lambda: measurements.efficiency(256, rounds, 3 * seconds),
        "backends256": lambda: measurements.backends(256, rounds, 3 * seconds),
        "overload256": lambda: measurements.overload(256, max(1, rounds // 2), 5 * seconds, (0.5, 1, 2, 5, 10)),
        "overload64": lambda: measurements.overload(64, rounds, seconds, (0.5, 1, 2, 5, 10)),
        "fairness64": lambda: measurements.fairness(64, rounds, seconds),
        "fairness256": lambda: measurements.fairness(256, max(1, rounds // 2), 6 * seconds),
        "tiny": lambda: measurements.tiny(rounds, seconds, (1, len(os.sched_getaffinity(0)))),
        "metrics": lambda: measurements.metrics_cost(rounds, seconds),
        "tracing": lambda: measurements.tracing_cost(rounds, seconds, options.base),
        "path": lambda: _path(sequence=options.sequence),
    }
    if unknown := set(options.tables) - set(makers):
        parser.error(f"unknown tables {', '.join(sorted(unknown))}; there are {' '.join(makers)}")
    if set(options.tables or makers) != {"path"}:
        h2load.require()
    print(f"{processor()}; {rounds} interleaved rounds, medians (range)")
    made = {}
    for name in options.tables or makers:
        started = time.monotonic()
        made[name] = makers[name]()
        print(f"\n{name} ({time.monotonic() - started:.0f} s)\n{TABLE.text(made[name])}", flush=True)
    if options.json:
        write_json(options.json, {"machine": processor(), "tables": made})


def _path(*, sequence: bool) -> list[Row]:
    found = path.measure()
    if sequence:
        print(*(f"{file} {function}" for file, function in found.calls), sep="\n")
    return path.rows(found)


if __name__ == "__main__":
    main()
