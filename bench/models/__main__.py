"""Each backend on each network, in turns, over the published form: ``make bench-models``."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from interleave import Spread
from models.candidate import Candidate
from models.machine import machine
from models.memory import Footprint, choose_fitting, footprint
from models.networks import DEFAULT_NETWORKS, NETWORKS, Network
from models.official import count_macs
from models.registry import AGAIN_NAME, OFFICIAL_NAME, candidates
from models.rounds import compare_candidates
from models.table import LEGEND, Row, make_rows, noise, print_rows
from serving.models import BUILT
from stylewire.errors import BackendUnavailableError
from stylewire.server.host import free_bytes, usable_cores
from tables import write_json

START_SECONDS, UNTIMED_START_SECONDS = 600, 60
"""A candidate that takes longer to load and run its batches once is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was measured of one network.

    Attributes:
        absent: candidates that cannot run here, each with the reason.
        noise: a backend over its second copy, by batch size.
    """

    network: str
    gmacs: float
    rows: list[Row]
    absent: list[str]
    noise: dict[int, Spread | None]


def main() -> None:
    """Print the tables; write them as JSON."""
    options = _read_options()
    found = machine(options.threads)
    print(f"{found}\n{options.rounds} interleaved rounds\n{LEGEND}", flush=True)
    reports = []
    for name in options.networks:
        started, network = time.monotonic(), NETWORKS[name]()
        batches = options.batches or network.batches
        report = _measure(network, batches, options, found.peak_gflops)
        _print(report, time.monotonic() - started)
        reports.append(report)
    written = {"machine": asdict(found), "rounds": options.rounds, "networks": [asdict(each) for each in reports]}
    write_json(options.json, written)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="models", description=__doc__)
    names = f"of {', '.join(NETWORKS)}; by default {','.join(DEFAULT_NETWORKS)}"
    parser.add_argument("--networks", type=_networks, default=DEFAULT_NETWORKS, help=names)
    parser.add_argument("--batches", type=_batches, help="by default 1,4,8, and 1 for 1024 px and the encoder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of every backend")
    parser.add_argument("--json", type=Path, default=BUILT / "models.json")
    return parser.parse_args()


def _networks(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(NETWORKS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NETWORKS)}")
    return names


def _batches(text: str) -> tuple[int, ...]:
    return tuple(sorted(map(int, text.split(","))))  # memory grows with the size, so the smallest comes first


def _measure(network: Network, batches: Sequence[int], options: argparse.Namespace, peak_gflops: float) -> Report:
    footprints, absent = _footprints(network, batches, options.threads)
    by_importance = sorted(footprints.items(), key=lambda item: item[0].name == AGAIN_NAME)
    absent |= choose_fitting(dict(by_importance), free_bytes())
    fitting = [each for each in footprints if each not in absent]
    macs = count_macs(network.checkpoint, network.graph, network.inputs(1))
    results = compare_candidates(fitting, network, batches, rounds=options.rounds, threads=options.threads)
    return Report(
        network=network.title,
        gmacs=macs / 1e9,
        rows=make_rows(network.title, results, footprints, macs, peak_gflops),
        absent=[f"{each.label}: {reason}" for each, reason in absent.items()],
        noise={batch: noise(results, batch) for batch in batches},
    )


def _footprints(
    network: Network, batches: Sequence[int], threads: int
) -> tuple[dict[Candidate, Footprint], dict[Candidate, str]]:
    """Measure each candidate in a process of its own; return those that cannot run apart, with the reasons."""
    found, absent = dict[Candidate, Footprint](), dict[Candidate, str]()
    for each in candidates(network, batches):
        sizes = [batch for batch in batches if each.takes(batch)]
        inputs = {batch: network.inputs(batch) for batch in (sizes if each.timed else sizes[:1])}
        limit = START_SECONDS if each.timed else UNTIMED_START_SECONDS
        try:
            found[each] = footprint(each, inputs, network.output, threads=threads, seconds=limit)
        except BackendUnavailableError as err:
            if each.name == OFFICIAL_NAME:
                raise  # there would be nothing to compare with
            absent[each] = str(err)
    return found, absent


def _print(report: Report, seconds: float) -> None:
    print(f"\n{report.network}: {report.gmacs:.3g} GMAC an item ({seconds:.0f} s)")
    print_rows(report.rows)
    for batch, spread in report.noise.items():
        if spread is not None:
            print(f"noise at batch {batch}, onnxruntime over itself: {spread}")
    for line in report.absent:
        print(f"absent: {line}")


if __name__ == "__main__":
    main()
