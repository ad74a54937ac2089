"""The process that looks for faces: ``face_search.py`` sends it images, it returns inputs of encoders.

A process of its own, since native code reads foreign images here: whatever happens to it, the server goes on.
"""

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, TypeAlias

from PIL import Image

from stylewire.latents import Array
from stylewire.manifest import EncoderInfo
from stylewire.media import codecs
from stylewire.media.codecs import ImageError
from stylewire.server.child_process import ChildError, ChildProcess
from stylewire.server.front.preprocessing.alignment import align, align_box
from stylewire.server.front.preprocessing.face_detectors import Art, Detector, Face, open_detector
from stylewire.server.front.preprocessing.transforms import encoder_input

_NICENESS = 5
"""Calls that need no search come first where cores are short."""


class SearchError(Exception):
    """The process has ended or does not answer."""


class Limits(NamedTuple):
    """What holds for all images.

    Attributes:
        landmark_model: the file that the operator named.
        search_px: longest side at which an image is searched.
        max_image_bytes: size of a file.
        max_image_pixels: width times height.
    """

    landmark_model: Path | None
    search_px: int
    max_image_bytes: int
    max_image_pixels: int


@dataclass(frozen=True, slots=True)
class Question:
    """An image, what is looked for, and the encoder that it is made ready for."""

    content: bytes
    art: Art
    encoder: EncoderInfo


class Found(NamedTuple):
    """A face, and the input of the encoder, float32[C, H, W]."""

    face: Face
    input: Array


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no face; ``damaged`` if the image could not be read at all."""

    message: str
    damaged: bool = False


Reply: TypeAlias = Found | Problem


class SearchProcess:
    """The server's end. It may be used by one thread at a time; the process is started by the first question.

    Args:
        limits: what holds for all images.

    Attributes:
        child: the process; None if there is none.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.child: ChildProcess | None = None

    def ask(self, question: Question, seconds: float) -> Reply:
        """Look for a face.

        Raises:
            SearchError: there was no answer in so many seconds; the next question starts another process.
        """
        if self.child and not self.child.alive:  # it ended while it had nothing to do
            self.close()
        try:
            child = self.child or self._start()
            with child.limit(seconds):
                child.send(question)
                reply: Reply = child.receive()
        except (ChildError, OSError) as err:
            self.close()
            if isinstance(err, ChildError) and err.timed_out:
                raise SearchError(f"the search for faces took longer than {seconds:g} s") from err
            cause = type(err.__cause__ or err).__name__
            raise SearchError(f"the process that looks for faces does not run ({cause})") from err
        return reply

    def kill(self) -> None:
        """Kill the process, so that a thread that waits for its answer gets an error. Call it from any thread."""
        if child := self.child:
            child.kill()

    def close(self) -> None:
        """Kill the process, and wait until it has ended."""
        child, self.child = self.child, None
        if child:
            child.close()

    def _start(self) -> ChildProcess:
        self.child = ChildProcess(__name__, (Found, Face, Problem), niceness=_NICENESS)
        self.child.send(self._limits)
        return self.child


class Searcher:
    """The process's end.

    Args:
        limits: what holds for all images.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._detectors: dict[Art, Detector] = {}

    def answer(self, question: Question) -> Reply:
        """Look for a face, cut it out, and make it the input of the encoder."""
        limits, encoder = self._limits, question.encoder
        try:
            image = codecs.decode(
                question.content, max_bytes=limits.max_image_bytes, max_pixels=limits.max_image_pixels
            )
        except ImageError as err:
            return Problem(str(err), damaged=True)
        face = self._detector(question.art).find(image)
        if face is None:
            what = "face of a person" if question.art == "face" else "drawn face"
            return Problem(f"no {what} was found in the picture of {image.width} x {image.height} px")
        try:
            aligned = _cut(image, face, max(encoder.input_height_px, encoder.input_width_px))
            return Found(face, encoder_input(aligned, encoder))
        except ImageError as err:
            return Problem(f"the face that was found cannot be used: {err}")

    def _detector(self, art: Art) -> Detector:
        if art not in self._detectors:
            self._detectors[art] = open_detector(art, self._limits.landmark_model, self._limits.search_px)
        return self._detectors[art]


def _cut(image: Image.Image, face: Face, output_px: int) -> Image.Image:
    if face.landmarks is None:
        return align_box(image, face.box, output_px=output_px)
    return align(image, face.landmarks, output_px=output_px)


def serve(connection: Connection) -> None:
    """Answer questions until the server closes the connection; the limits come first."""
    searcher = Searcher(connection.recv())
    while True:
        connection.send(searcher.answer(connection.recv()))
