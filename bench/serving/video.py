"""Time the encoding of frames as video against PNG, in turns; prints a table and writes JSON.

The frames are a looped walk of the demo model ``avatars``, enlarged: smooth areas and edges, as faces have.
"""

import argparse
import hashlib
import io
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from interleave import Spread
from stylewire import latents
from stylewire.demo import MODELS
from stylewire.keyframes import CubicPath, frame_positions
from stylewire.media import codecs
from stylewire.media.codecs import ImageFormat
from stylewire.server.front.pipeline import jobs, rendering
from stylewire.server.front.pipeline.video_encoder import VideoWriter
from stylewire.server.host import resident_bytes, trim_memory
from tables import Table, write_json

Frames = list[NDArray[np.uint8]]
SIZES_PX = (64, 256, 1024)
FRAME_RATE = 30
TABLE = Table("video:>12", "ms/frame:>", "over PNG:>22", "kbit/s:>7", "dB:>5", "MB:>4", "other thread:>")


def main() -> None:
    """Run ``make bench-video``."""
    parser = argparse.ArgumentParser(prog="serving.video", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; the table has their medians")
    parser.add_argument("--frames", type=int, default=60, help="of a turn")
    parser.add_argument("--out", type=Path, default=Path("build/bench/video.json"))
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES_PX), choices=SIZES_PX, metavar="PX")
    options = parser.parse_args()
    drawn = draw(options.frames)
    encode(drawn[:2], jobs.Container.MP4, 0)  # loads PyAV, which is not to be measured
    print(
        f"one thread; median of {options.rounds} interleaved ratios (lowest to highest); {FRAME_RATE} frames a second"
    )
    TABLE.print_headings()
    rows = []
    for size_px in options.sizes:
        frames = [enlarged(frame, size_px) for frame in drawn]
        for container in jobs.Container:
            rows.append(measure(frames, container, options.rounds))
            TABLE.print_row(*_cells(rows[-1]))
    write_json(options.out, rows)


def draw(count: int) -> Frames:
    """Draw a looped walk through four faces, uint8[64, 64, 3] each."""
    mapping, synthesis = (
        ort.InferenceSession(MODELS / "avatars" / f"{name}.onnx") for name in ("mapping", "synthesis")
    )
    (w,) = mapping.run(["w"], {"z": np.stack([latents.sample_z(seed, 128) for seed in range(1, 5)])})
    path = CubicPath.through(latents.broadcast(w, 10), looped=True)
    frames: Frames = []
    for position in frame_positions(4, count, looped=True).tolist():
        inputs = {"w_plus": path.at(position)[np.newaxis], **rendering.noise_inputs(jobs.Noise(), 0, 1)}
        frames.append(synthesis.run(["pixels"], inputs)[0][0])
    return frames


def enlarged(frame: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Enlarge a frame smoothly."""
    return np.asarray(Image.fromarray(frame).resize((size_px, size_px), Image.Resampling.LANCZOS))


def measure(frames: Frames, container: jobs.Container, rounds: int) -> dict[str, Any]:
    """Compare the video of some frames with their PNG files."""
    trim_memory()
    before = resident_bytes()
    content, grown = encode(frames, container, before)
    ratios, milliseconds = [], []
    for _ in range(rounds):
        started = time.process_time()
        encode(frames, container, before)
        between = time.process_time()
        for frame in frames:
            codecs.encode(frame, ImageFormat.PNG)
        milliseconds.append((between - started) * 1000 / len(frames))
        ratios.append((between - started) / (time.process_time() - between))
    return {
        "video": f"{len(frames[0])} {container.value}",
        "milliseconds": statistics.median(milliseconds),
        "over_png": sorted(ratios),
        "kilobits_per_second": len(content) * 8 / 1000 * FRAME_RATE / len(frames),
        "decibels": float(np.mean(list(likeness(frames, content)))),
        "megabytes": grown / 1e6,
        "other_thread": statistics.median(other_thread(frames, container, before) for _ in range(rounds)),
    }


def encode(frames: Frames, container: jobs.Container, before: int) -> tuple[bytes, int]:
    """Make a file; also say how much more memory the process had just before its end."""
    form = jobs.Video(container=container, frame_rate=Fraction(FRAME_RATE), quality=75)
    writer = VideoWriter(form, len(frames))
    parts = [writer.add(frame) for frame in frames]
    grown = resident_bytes() - before
    parts.append(writer.finish())
    writer.close()
    return b"".join(parts), grown


def likeness(frames: Frames, content: bytes) -> Iterator[float]:
    """Return the peak signal to noise ratio of each frame, in dB."""
    with av.open(io.BytesIO(content)) as container:
        for frame, shown in zip(frames, container.decode(video=0), strict=True):
            found = shown.reformat(format="yuv444p").reformat(format="rgb24").to_ndarray()
            yield 10 * np.log10(255**2 / np.square(frame.astype(float) - found).mean())


def other_thread(frames: Frames, container: jobs.Container, before: int) -> float:
    """Say how fast Python runs in another thread meanwhile, over how fast beside hashing, which frees the GIL."""
    started = time.perf_counter()
    beside_encoding = _count_during(lambda: encode(frames, container, before))
    seconds = time.perf_counter() - started
    return beside_encoding / _count_during(lambda: _hash(seconds))


def _hash(seconds: float) -> None:
    content, stop = bytes(1 << 20), time.perf_counter() + seconds
    while time.perf_counter() < stop:
        hashlib.sha256(content)


def _count_during(work: Callable[[], object]) -> float:
    stop, counts = threading.Event(), [0]

    def count() -> None:
        for number in itertools.count():
            if stop.is_set():
                counts[0] = number
                return

    thread = threading.Thread(target=count)
    thread.start()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    stop.set()
    thread.join()
    return counts[0] / seconds


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    forms = {"kilobits_per_second": ".0f", "decibels": ".1f", "megabytes": ".0f", "other_thread": ".2f"}
    rest = (format(row[name], form) for name, form in forms.items())
    return row["video"], f"{row['milliseconds']:.2f}", Spread.of(row["over_png"]), *rest


if __name__ == "__main__":
    main()
