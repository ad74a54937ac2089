"""Time the search for faces by size, and what it costs calls that need none; prints tables and writes JSON.

The second table compares a lone client alone and beside a client that has faces found all the time, in turns; alone
again is the machine's noise.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from stylewire import Client
from stylewire.server.config.schema import FaceSearch
from stylewire.server.front.preprocessing.face_detectors import Art, open_detector
from support.drawing import drawn_face
from support.pictures import astronaut
from support.servers import ServerProcess

SIZES_PX = (256, 512, 1024, 2048, 4096)


def main() -> None:
    """Run ``make bench-faces``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each kind")
    parser.add_argument("--calls", type=int, default=100, help="calls a turn")
    parser.add_argument("--out", type=Path, default=Path("build/bench/faces.json"))
    given = parser.parse_args()
    report = {"search_ms": _searches(given.rounds), "p50_ms": _calls(given.rounds, given.calls)}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=1), encoding="utf-8")


def _searches(rounds: int) -> dict[str, dict[int, list[float]]]:
    """Search square pictures of each size, in turns: art -> side -> milliseconds."""
    search_px = FaceSearch.model_fields["face_search_px"].default
    arts: dict[Art, Image.Image] = {"face": astronaut(), "anime": drawn_face(512)}
    times: dict[str, dict[int, list[float]]] = {art: {size: [] for size in SIZES_PX} for art in arts}
    for art, picture in arts.items():
        detector = open_detector(art, None, search_px)
        pictures = {size: picture.resize((size, size)) for size in SIZES_PX}
        for _ in range(rounds):
            for size, each in pictures.items():
                started = time.perf_counter()
                found = detector.find(each)
                times[art][size].append((time.perf_counter() - started) * 1e3)
                assert found, f"no {art} at {size} px"
    print("search, ms: median (least to most)" + "".join(f"{size:>20} px" for size in SIZES_PX))
    for art, by_size in times.items():
        print(f"{art:>34}" + "".join(f"{_spread(by_size[size]):>23}" for size in SIZES_PX))
    return times


def _calls(rounds: int, count: int) -> dict[str, list[float]]:
    """Time ``generate`` of one client: median of a turn, alone, alone again, beside searches."""
    server = ServerProcess()
    medians: dict[str, list[float]] = {"alone": [], "alone again": [], "beside searches": []}
    try:
        with Client(server.address, timeout=120) as client:
            client.invert(astronaut(), align="face")  # loads the models
            for _ in range(rounds):
                for kind, turn in medians.items():
                    with _searching(server.address, busy=kind == "beside searches"):
                        turn.append(_median_ms(client, count))
    finally:
        server.kill()
    print("\np50 of generate at 64 px, ms: " + ", ".join(f"{kind} {_spread(turn)}" for kind, turn in medians.items()))
    for kind in ("alone again", "beside searches"):
        ratios = [one / alone for one, alone in zip(medians[kind], medians["alone"], strict=True)]
        least, most = min(ratios), max(ratios)
        print(f"{kind} over alone: {statistics.median(ratios):.2f} ({least:.2f} to {most:.2f})")
    return medians


def _median_ms(client: Client, count: int) -> float:
    seconds = []
    for number in range(count):
        started = time.perf_counter()
        client.generate(number, format="jpeg")
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1e3


@contextmanager
def _searching(address: str, *, busy: bool) -> Iterator[None]:
    """Have faces found without pause meanwhile, by a client of its own."""
    ended = threading.Event()

    def search() -> None:
        with Client(address, timeout=120) as client:
            while not ended.is_set():
                client.invert(astronaut(), align="face")

    thread = threading.Thread(target=search)
    if busy:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if busy:
            thread.join()


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
