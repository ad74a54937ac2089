"""Video files, frame by frame."""

import struct
import subprocess
from fractions import Fraction

import numpy as np
import pytest

from stylewire.media import provenance
from stylewire.media.image_headers import ImageError
from stylewire.media.provenance import Packets
from stylewire.media.video_headers import read_video_header
from stylewire.server.front.pipeline import jobs
from stylewire.server.front.pipeline.video_encoder import VideoWriter
from stylewire.server.host import resident_bytes
from support.tools import needs_exiftool
from support.videos import Decoded, psnr

BOTH = pytest.mark.parametrize("container", jobs.Container)
SIDE_PX = 64
DURATIONS = {
    jobs.Container.MP4: b"mehd" + struct.pack(">II", 0, 3000),
    jobs.Container.WEBM: b"\x44\x89\x88" + struct.pack(">d", 3000),
}
"""Three seconds, as ISO/IEC 14496-12 (8.8.2) and Matroska (RFC 9559, 5.1.2.12) write them."""
PACKET = Packets("faces", "sha256:00").packet("seed 7")


def writer(container, frame_count, packet=None) -> VideoWriter:
    form = jobs.Video(container=container, frame_rate=Fraction(30), quality=75)
    return VideoWriter(form, frame_count, packet)


def wave(index: int, channel_count: int = 3) -> np.ndarray:
    """A frame of a pattern that moves."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    shades = [np.sin((x + y * (1 + k) / 3 + 2 * index) / 16) for k in range(channel_count)]
    return np.rint(np.stack(shades, axis=2) * 100 + 128).astype(np.uint8)


@BOTH
@pytest.mark.parametrize("channel_count", [1, 3], ids=["gray", "color"])
def test_colors_are_those_of_the_frames(container, channel_count):
    """Gray and colored frames come back as they were, but for what compression takes."""
    made = writer(container, 5)
    frames = [wave(index, channel_count) for index in range(5)]
    decoded = Decoded(b"".join([*map(made.add, frames), made.finish()]))

    assert min(psnr(frame, other) for frame, other in zip(frames, decoded.frames, strict=True)) > 35
    assert np.abs(decoded.frames.mean((1, 2)) - np.mean(frames, (1, 2))).max() < 2


@BOTH
def test_memory_does_not_grow_with_the_frames(container):
    """After the first seconds, an hour takes no more."""
    made, frames, size = writer(container, 2000), [wave(index) for index in range(30)], 0
    resident = []
    for index in range(2000):
        size += len(made.add(frames[index % 30]))
        if index % 500 == 499:
            resident.append(resident_bytes())
    made.close()
    print(f"{container.value}: {(resident[-1] - resident[0]) / 1e6:.2f} MB more after 1500 frames, {size} bytes made")

    assert size > 100_000
    assert resident[-1] - resident[0] < 4e6


@BOTH
def test_head_comes_with_the_first_frame(container):
    """Length and origin are known before anything is played."""
    made = writer(container, 90, PACKET)
    head = made.add(wave(0))
    made.close()

    assert "seed 7" == provenance.read(head).source
    assert DURATIONS[container] in head


@needs_exiftool
def test_exiftool_reads_the_origin(tmp_path):
    """An independent reader finds the packet of an MP4 where the specification of XMP puts it, and nothing wrong."""
    made = writer(jobs.Container.MP4, 3, PACKET)
    path = tmp_path / "a.mp4"
    path.write_bytes(b"".join([*map(made.add, map(wave, range(3))), made.finish()]))
    tags = ("-XMP-iptcExt:DigitalSourceType", "-XMP-iptcExt:AISystemUsed", "-XMP-stylewire:Source", "-Warning")
    done = subprocess.run(["exiftool", "-s3", *tags, path], capture_output=True, text=True, check=True)

    assert [provenance.GENERATED, "faces", "seed 7"] == done.stdout.splitlines()


@BOTH
def test_closed_writer_takes_no_more(container):
    """What is still being added when a reader leaves makes nothing any more, and closing again does nothing."""
    made = writer(container, 3)
    made.add(wave(0))
    made.close()

    assert b"" == made.add(wave(1))
    made.close()


@BOTH
def test_header_of_a_damaged_file_is_refused(container):
    """Cut anywhere or with any byte changed, a head gives its size or an error, and nothing else."""
    made = writer(container, 3, PACKET)
    head = made.add(wave(0))
    made.close()
    refused = 0
    assert (SIDE_PX, SIDE_PX) == read_video_header(head)[1:]

    for place in range(len(head)):
        changed = head[:place] + bytes([head[place] ^ 0xFF]) + head[place + 1 :]
        for damaged in (head[:place], changed):
            try:
                read_video_header(damaged)
                provenance.read(damaged)
            except ImageError:
                refused += 1

    assert refused > 100
