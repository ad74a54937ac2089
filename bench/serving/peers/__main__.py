"""The same graphs behind other model servers, in turns with stylewire: ``PYTHONPATH=bench python -m serving.peers``."""

import argparse
import statistics
from pathlib import Path

from interleave import Spread
from serving import models
from serving.h2load import percentile, require
from serving.peers.registry import PEERS
from serving.peers.rounds import CLIENTS, Rounds, Turns, compare
from tables import Table, write_json

TABLE = Table(
    "server:<17",
    "protocol:<",
    f"images/s, {CLIENTS} clients:>",
    "stylewire / it:>20",
    "p50 ms, 1 client:>",
    "p99 ms:>8",
    "stylewire / it, p50:>20",
    "idle CPU:>",
    "failed:>",
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
    require()
    names = ["stylewire", *(name for name in arguments.peers.split(",") if name != "stylewire")]
    results = {}
    for resolution in map(int, arguments.models.split(",")):
        seconds = arguments.seconds * (3 if resolution > 64 else 1)
        rounds = Rounds(MODELS[resolution](), resolution, seconds)
        results[resolution] = compare([PEERS[name] for name in names], rounds, arguments.rounds)
        print(f"\n{resolution} px, {arguments.rounds} rounds of {seconds:g} s\n")
        print(TABLE.text(map(to_row, results[resolution])), flush=True)
    if arguments.json:
        write_json(arguments.json, {size: [_figures(turns) for turns in table] for size, table in results.items()})
    if arguments.markdown:
        tables = (f"{size} px\n\n{TABLE.markdown(map(to_row, table))}\n" for size, table in results.items())
        arguments.markdown.write_text("\n".join(tables), encoding="utf-8")


def to_row(turns: Turns) -> tuple[str, ...]:
    """Convert a server's figures to a row of the table."""
    peer = turns.peer
    label = f"{peer.name} {peer.version}" if peer.name != "stylewire" else "stylewire (A/A)"
    if turns.error:
        return (label, peer.protocol, f"- {turns.error}", *[""] * (len(TABLE.headings) - 3))
    return (
        label,
        peer.protocol,
        f"{statistics.median(turns.speeds):.1f}",
        str(Spread.of(turns.speed_ratios)),
        f"{percentile(turns.latencies_seconds, 50) * 1e3:.2f}",
        f"{percentile(turns.latencies_seconds, 99) * 1e3:.2f}",
        str(Spread.of(turns.latency_ratios)),
        f"{turns.idle:.0%}",
        str(turns.failed),
    )


def _figures(turns: Turns) -> dict[str, object]:
    names = ("speeds", "latencies_seconds", "speed_ratios", "latency_ratios", "idle", "failed", "error")
    return {"name": turns.peer.name, "version": turns.peer.version, **{name: getattr(turns, name) for name in names}}


if __name__ == "__main__":
    main()
