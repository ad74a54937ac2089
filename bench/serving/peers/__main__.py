"""The same graphs behind other model servers, in turns with stylewire: ``PYTHONPATH=bench python -m serving.peers``."""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from serving import models
from serving.h2load import percentile
from serving.peers.roster import PEERS
from serving.peers.rounds import CLIENTS, Rounds, Turns, compare

HEADER = (
    "server",
    "protocol",
    f"images/s, {CLIENTS} clients",
    "stylewire / it",
    "p50 ms, 1 client",
    "p99 ms",
    "stylewire / it, p50",
    "idle CPU",
    "failed",
)
MODELS = {64: models.demo, 256: models.seeded}


def main() -> None:
    """Measure and print a table a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=",".join(PEERS), help="names, with commas; stylewire is always among them")
    parser.add_argument("--models", default="64,256", help="sizes in px, with commas: 64 is the demo model")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn; at 256 px three times that")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--markdown", type=Path, help="also write the tables here")
    arguments = parser.parse_args()
    names = ["stylewire", *(name for name in arguments.peers.split(",") if name != "stylewire")]
    results = {}
    for resolution in map(int, arguments.models.split(",")):
        seconds = arguments.seconds * (3 if resolution > 64 else 1)
        rounds = Rounds(MODELS[resolution](), resolution, seconds)
        results[resolution] = compare([PEERS[name] for name in names], rounds, arguments.rounds)
        print(f"\n{resolution} px, {arguments.rounds} rounds of {seconds:g} s\n")
        print(align([HEADER, *map(to_row, results[resolution])]), flush=True)
    if arguments.json:
        figures = {size: [_figures(turns) for turns in table] for size, table in results.items()}
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if arguments.markdown:
        tables = (f"{size} px\n\n{to_markdown([HEADER, *map(to_row, table)])}\n" for size, table in results.items())
        arguments.markdown.write_text("\n".join(tables), encoding="utf-8")


def to_row(turns: Turns) -> tuple[str, ...]:
    """Write a server's figures."""
    peer = turns.peer
    label = f"{peer.name} {peer.version}" if peer.name != "stylewire" else "stylewire (A/A)"
    if turns.error:
        return (label, peer.protocol, f"- {turns.error}", *[""] * (len(HEADER) - 3))
    return (
        label,
        peer.protocol,
        f"{statistics.median(turns.speeds):.1f}",
        _with_range(turns.speed_ratios),
        f"{percentile(turns.latencies_seconds, 50) * 1e3:.2f}",
        f"{percentile(turns.latencies_seconds, 99) * 1e3:.2f}",
        _with_range(turns.latency_ratios),
        f"{turns.idle:.0%}",
        str(turns.failed),
    )


def align(rows: Sequence[tuple[str, ...]]) -> str:
    """Lay a table out in columns."""
    # An error may be longer than any column should be.
    widths = [max(len(cell) for cell in column if not cell.startswith("- ")) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def to_markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Write a table as Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _with_range(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _figures(turns: Turns) -> dict[str, object]:
    names = ("speeds", "latencies_seconds", "speed_ratios", "latency_ratios", "idle", "failed", "error")
    return {"name": turns.peer.name, "version": turns.peer.version, **{name: getattr(turns, name) for name in names}}


if __name__ == "__main__":
    main()
