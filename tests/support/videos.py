"""Video files, decoded by FFmpeg, and how far they are from pictures."""

import io

import av
import numpy as np

_BT709 = 1


class Decoded:
    """A video file as a player sees it.

    Attributes:
        frames: uint8[F, H, W, 3].
        times: seconds of each frame.
        seconds: what the file says of its length.
        tags: its metadata.
    """

    def __init__(self, content: bytes) -> None:
        with av.open(io.BytesIO(content)) as container:
            frames = list(container.decode(video=0))
            self.seconds = container.duration / 1_000_000
            self.tags = {name.lower(): value for name, value in container.metadata.items()}
        # By what the file says of its colors. Not at once: FFmpeg's short cut from 4:2:0 is two levels too dark.
        full = [frame.reformat(format="yuv444p").reformat(format="rgb24") for frame in frames]
        self.frames = np.stack([frame.to_ndarray() for frame in full])
        self.times = [float(frame.time) for frame in frames]
        assert {_BT709} == {frame.colorspace for frame in frames}


def psnr(frame, other) -> float:
    """Peak signal to noise ratio of two uint8 pictures, in dB."""
    return 10 * np.log10(255**2 / np.square(frame.astype(float) - other).mean())
