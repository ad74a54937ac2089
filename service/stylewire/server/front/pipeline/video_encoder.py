"""Frames -> pieces of a video file that plays while it grows. Knows PyAV, which is loaded with the first video."""

import importlib.util
import threading
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from stylewire.errors import UnsupportedError
from stylewire.media import xmp
from stylewire.media.codecs import Pixels
from stylewire.media.provenance import GENERATED
from stylewire.server.front.pipeline import jobs

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

SMALLEST_PX = 16
"""One macroblock: what is smaller, decoders in hardware refuse."""

_BT709, _LIMITED_RANGE = 1, 1
"""ITU-T H.273, tables 2 to 4, and FFmpeg's AVCOL_RANGE_MPEG."""
_THREADS = 1
"""Files would differ with the number of threads, and other calls need the cores too."""


class _Form(NamedTuple):
    """FFmpeg's options for a container.

    No pictures are reordered: the first frame then is at time 0 without an edit list, which fragments cannot have, and
    so a looped video has no gap.
    """

    codec: str
    options: dict[str, str]
    container_options: dict[str, str]
    worst_factor: float
    """Constant rate factor for quality 0."""
    best_factor: float
    """For quality 100."""


_FORMS = {
    jobs.Container.MP4: _Form(
        codec="libx264",
        options={"preset": "veryfast", "x264-params": "bframes=0:rc-lookahead=10"},
        container_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
        worst_factor=51,
        best_factor=7,
    ),
    jobs.Container.WEBM: _Form(
        codec="libvpx-vp9",
        options={"deadline": "realtime", "cpu-used": "6", "lag-in-frames": "0", "auto-alt-ref": "0"},
        container_options={"cluster_time_limit": "1000"},
        worst_factor=63,
        best_factor=11,
    ),
}


@cache
def is_available() -> bool:
    """Tell whether the extra ``[video]`` is installed."""
    return importlib.util.find_spec("av") is not None


class VideoWriter:
    """Writes one video file. Every method may be called in another thread than the one before.

    Args:
        video: the form of the file.
        frame_count: of the whole file.
        packet: XMP, for the metadata; None for none.

    Attributes:
        mime_type: with codec, once a frame was added.
    """

    def __init__(self, video: jobs.Video, frame_count: int, packet: bytes | None = None) -> None:
        self.mime_type = ""
        self._video, self._frame_count, self._packet = video, frame_count, packet
        self._form = _FORMS[video.container]
        self._file = _File()
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._added, self._closed = 0, False
        self._lock = threading.Lock()  # a cancelled call leaves while its last frame is still being encoded

    def add(self, pixels: Pixels) -> bytes:
        """Add a frame.

        Args:
            pixels: uint8[H, W, 3 or 1], of the same even size in all frames.

        Returns:
            What has become ready of the file, often nothing; nothing of one that was closed meanwhile.

        Raises:
            UnsupportedError: this build of PyAV lacks the encoder.
        """
        import av  # noqa: PLC0415 - an extra, and 60 MB of libraries

        array = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        with self._lock:
            if self._closed:
                return b""
            start = self._open(*pixels.shape[:2]) if self._container is None else b""
            assert self._container
            assert self._stream
            frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED_RANGE
            )
            frame.pts, frame.time_base = self._added, 1 / self._video.frame_rate
            self._added += 1
            self._container.mux(self._stream.encode(frame))
            return start + self._file.take()

    def finish(self) -> bytes:
        """End the file, and return the rest of it."""
        with self._lock:
            assert self._container
            assert self._stream
            self._container.mux(self._stream.encode(None))
            self._container.close()
            return self._file.take()

    def close(self) -> None:
        """Free the encoder, whether the file is whole or not."""
        with self._lock:
            self._closed = True
            self._file.drop()
            if self._container is not None:
                self._container.close()
            self._container = self._stream = None

    def _open(self, height_px: int, width_px: int) -> bytes:
        """Open the encoder, and return the head of the file."""
        import av  # noqa: PLC0415

        mp4, rate = self._video.container is jobs.Container.MP4, self._video.frame_rate
        # Nothing random in it: the same frames give the same file.
        options = {**self._form.container_options, "fflags": "+bitexact+flush_packets", "flush_packets": "1"}
        container = av.open(self._file, "w", format=self._video.container.value, options=options)
        try:
            stream = cast(
                "VideoStream", container.add_stream(self._form.codec, rate=rate, options=self._rate_control())
            )
        except av.codec.codec.UnknownCodecError as err:
            other = "WEBM" if mp4 else "MP4"
            found = f"this server's PyAV was built without {self._form.codec}"
            raise UnsupportedError(f"{found}; ask for {other} or for single frames") from err
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width_px, height_px, "yuv420p"
        context.time_base = 1 / rate
        context.thread_count, context.gop_size = _THREADS, max(1, round(rate))
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        if self._video.bits_per_second is not None:
            context.bit_rate = self._video.bits_per_second
        self._container, self._stream = container, stream
        if self._packet:
            container.metadata["comment"] = f"Synthetic, made by a model: {GENERATED}"
        if self._packet and not mp4:
            container.metadata["XMP"] = self._packet.decode()
        stream.metadata["DURATION"] = _clock(self._frame_count / rate)  # Matroska's head, for the players' time bar
        container.start_encoding()
        self.mime_type = f'video/mp4; codecs="{_avc(context.extradata or b"")}"' if mp4 else 'video/webm; codecs="vp9"'
        head = self._file.take()
        if not mp4:
            return head
        return _with_duration(head, self._frame_count / rate) + (xmp.mp4_box(self._packet) if self._packet else b"")

    def _rate_control(self) -> dict[str, str]:
        form, video = self._form, self._video
        if video.bits_per_second is not None:
            return form.options
        factor = form.worst_factor + (form.best_factor - form.worst_factor) * video.quality / 100
        return {**form.options, "crf": str(round(factor)), "b": "0"}


class _File:
    """What PyAV writes to: no way back, and nothing is kept but what was not taken yet."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._dropped = False

    def write(self, data: bytes) -> int:
        """Keep a part; PyAV's buffer is used again."""
        if not self._dropped:
            self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Give what was written since the last time."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken

    def drop(self) -> None:
        """Keep nothing from now on."""
        self._dropped = True
        self._parts.clear()


def _clock(seconds: Fraction) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{float(rest):012.9f}"


def _with_duration(head: bytes, seconds: Fraction) -> bytes:
    """Tell in the head of a fragmented MP4 how long it will be; players take it for a live stream otherwise.

    Source: ISO/IEC 14496-12, sections 8.8.1 (``mvex``) and 8.8.2 (``mehd``).
    """
    moov, mvhd, mvex = (head.index(kind) for kind in (b"moov", b"mvhd", b"mvex"))
    scale = int.from_bytes(head[mvhd + 16 : mvhd + 20])  # units a second
    box = (16).to_bytes(4) + b"mehd" + bytes(4) + round(seconds * scale).to_bytes(4)
    longer = bytearray(head[: mvex + 4] + box + head[mvex + 4 :])
    for kind in (moov, mvex):
        longer[kind - 4 : kind] = (int.from_bytes(longer[kind - 4 : kind]) + len(box)).to_bytes(4)
    return bytes(longer)


def _avc(extradata: bytes) -> str:
    """Name profile and level as RFC 6381 does, from the sequence parameter set behind its start code."""
    start = extradata.index(b"\0\0\1\x67") + 4
    return f"avc1.{extradata[start : start + 3].hex()}"
