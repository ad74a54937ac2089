"""Time the search for faces by size, and what it costs calls that need none; prints tables and writes JSON.

The second table compares a lone client alone and beside a client that has faces found all the time, in turns; alone
again is the machine's noise.
"""

import argparse
import statistics
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image

from interleave import Spread, ratios, seconds_per_run, take_turns
from serving.process import serving
from stylewire import Client
from stylewire.demo import MODELS
from stylewire.server.config.schema import FaceSearch
from stylewire.server.front.preprocessing.face_detectors import Art, open_detector
from support.drawing import drawn_face
from support.pictures import astronaut
from tables import Table, write_json

SIZES_PX = (256, 512, 1024, 2048, 4096)


def main() -> None:
    """Run ``make bench-faces``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each kind")
    parser.add_argument("--calls", type=int, default=100, help="calls a turn")
    parser.add_argument("--out", type=Path, default=Path("build/bench/faces.json"))
    options = parser.parse_args()
    report = {"search_ms": _searches(options.rounds), "p50_ms": _calls(options.rounds, options.calls)}
    write_json(options.out, report)


def _searches(rounds: int) -> dict[str, dict[int, list[float]]]:
    """Search square pictures of each size, in turns: art -> side -> milliseconds."""
    search_px = FaceSearch.model_fields["face_search_px"].default
    arts: dict[Art, Image.Image] = {"face": astronaut(), "anime": drawn_face(512)}
    table = Table("search, ms: median (least to most):>", *(f"{size} px:>23" for size in SIZES_PX))
    table.print_headings()
    times: dict[str, dict[int, list[float]]] = {}
    for art, picture in arts.items():
        detector = open_detector(art, None, search_px)
        pictures = {size: picture.resize((size, size)) for size in SIZES_PX}
        assert all(map(detector.find, pictures.values())), f"no {art} in its picture"
        searches = {size: partial(detector.find, each) for size, each in pictures.items()}
        seconds = take_turns({size: partial(seconds_per_run, run) for size, run in searches.items()}, range(rounds))
        times[art] = {size: [each * 1e3 for each in values] for size, values in seconds.items()}
        table.print_row(art, *(f"{Spread.of(values):.1f}" for values in times[art].values()))
    return times


def _calls(rounds: int, count: int) -> dict[str, list[float]]:
    """Time ``generate`` of one client: median of a turn, alone, alone again, beside searches."""
    with serving(MODELS) as server, Client(server.address, timeout=120) as client:
        client.invert(astronaut(), align="face")  # loads the models
        alone = partial(_median_ms, client, count)
        kinds = {"alone": alone, "alone again": alone, "beside searches": partial(_beside, server.address, alone)}
        medians = take_turns(kinds, range(rounds))
    table = Table("p50 of generate at 64 px:>34", "ms:>23", "over alone:>23")
    print(f"\n{table.line(table.headings)}")
    for kind, values in medians.items():
        table.print_row(kind, f"{Spread.of(values):.1f}", Spread.of(ratios(values, medians["alone"])))
    return medians


def _median_ms(client: Client, count: int) -> float:
    calls = (partial(client.generate, number, format="jpeg") for number in range(count))
    return statistics.median(map(seconds_per_run, calls)) * 1e3


def _beside(address: str, measure: Callable[[], float]) -> float:
    """Measure while another client has faces found without pause."""
    ended = threading.Event()

    def search() -> None:
        with Client(address, timeout=120) as client:
            while not ended.is_set():
                client.invert(astronaut(), align="face")

    thread = threading.Thread(target=search)
    thread.start()
    try:
        return measure()
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
