"""The process that looks for faces: ``faces.py`` gives it pictures, it gives inputs of encoders.

A process of its own, since native code reads foreign pictures here: whatever happens to it, the server goes on. It ends
when its connection does.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, TypeAlias

from PIL import Image

from stylewire.latents import Array
from stylewire.manifest import EncoderInfo
from stylewire.media import codecs
from stylewire.media.codecs import ImageError
from stylewire.server.front.preprocessing.alignment import align, align_box
from stylewire.server.front.preprocessing.face_detectors import Art, Detector, Face, open_detector
from stylewire.server.front.preprocessing.transforms import encoder_input

_NICENESS = 5
"""Calls that need no search come first where cores are short."""


class SearchError(Exception):
    """The process has ended or does not answer."""


class Limits(NamedTuple):
    """What holds for all pictures.

    Attributes:
        landmark_model: the file that the operator named.
        search_px: longest side at which a picture is searched.
        max_image_bytes: size of a file.
        max_image_pixels: width times height.
    """

    landmark_model: Path | None
    search_px: int
    max_image_bytes: int
    max_image_pixels: int


@dataclass(frozen=True, slots=True)
class Question:
    """A picture, what is looked for, and the encoder that it is made ready for."""

    content: bytes
    art: Art
    encoder: EncoderInfo


class Found(NamedTuple):
    """A face, and the input of the encoder, float32[C, H, W]."""

    face: Face
    input: Array


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no face; ``damaged`` if the picture could not be read at all."""

    message: str
    damaged: bool = False


Reply: TypeAlias = Found | Problem


class SearchProcess:
    """The server's end. It may be used by one thread at a time; the process is started by the first question.

    Args:
        limits: what holds for all pictures.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def ask(self, question: Question, seconds: float) -> Reply:
        """Look for a face.

        Raises:
            SearchError: there was no answer in so many seconds; the next question starts another process.
        """
        if self._process and self._process.poll() is not None:  # it ended while it had nothing to do
            self.close()
        # Not by a limit of the wait for the answer: sending a large picture waits for the process too.
        watch = threading.Timer(seconds, self.kill)
        began = time.monotonic()
        try:
            connection = self._connection or self._start()
            watch.start()
            connection.send(question)
            reply: Reply = connection.recv()
        except (EOFError, OSError) as err:
            self.close()
            if time.monotonic() - began >= seconds:
                raise SearchError(f"the search for faces took longer than {seconds:g} s") from err
            raise SearchError(f"the process that looks for faces does not run ({type(err).__name__})") from err
        finally:
            watch.cancel()
        return reply

    def kill(self) -> None:
        """Let whoever waits for an answer wait no longer. May be called from another thread."""
        if process := self._process:
            process.kill()

    def close(self) -> None:
        """End the process, whatever it does."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection:
            connection.close()
        if process:
            process.kill()
            process.wait()

    def _start(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            # Not -m: what is sent would be of a module __main__, which the server does not have.
            command = [sys.executable, "-c", f"from {__name__} import main; main({theirs.fileno()})"]
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        self._connection = Connection(ours.detach())
        self._connection.send(self._limits)
        return self._connection


class Searcher:
    """The process's end.

    Args:
        limits: what holds for all pictures.
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


def main(number: int) -> None:
    """Answer until the server closes the connection.

    Args:
        number: the file descriptor of the connection.
    """
    for each in (signal.SIGINT, signal.SIGTERM):  # a terminal and systemd tell the whole group; the server decides
        signal.signal(each, signal.SIG_IGN)
    os.nice(_NICENESS)
    connection = Connection(number)
    try:
        searcher = Searcher(connection.recv())
        while True:
            connection.send(searcher.answer(connection.recv()))
    except (EOFError, ConnectionError):
        return
