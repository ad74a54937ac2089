"""Pixels -> the native part of animeface (the library nvxs), without Pillow between them.

animeface 2.0.3 reads the memory of Pillow's images with the layout that they had up to Pillow 11. Later ones keep
their fields elsewhere, so that ``animeface.detect`` reads what is no image and finds nothing. Here the native
function gets a structure of that old layout, over pixels of ours.
"""

import ctypes
import importlib.metadata
import importlib.util
from typing import Any

import numpy as np
from PIL import Image

from stylewire.server.front.preprocessing.alignment import Box

VERSION = "2.0.3"
"""The release whose native part reads this layout."""


class _OldImage(ctypes.Structure):
    """The head of ``ImagingMemoryInstance`` as in Pillow 11: what the native function reads of it."""

    _fields_ = (
        ("mode", ctypes.c_char * 7),
        ("type", ctypes.c_int),
        ("depth", ctypes.c_int),
        ("bands", ctypes.c_int),
        ("width_px", ctypes.c_int),
        ("height_px", ctypes.c_int),
        ("palette", ctypes.c_void_p),
        ("rows_of_bytes", ctypes.c_void_p),
        ("rows_of_pixels", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("unread", ctypes.c_void_p * 32),
    )


def missing() -> str:
    """Return what has to be installed; empty if nothing is missing."""
    if importlib.util.find_spec("animeface") is None:
        return "animeface is not installed there: pip install 'stylewire[align]'"
    found = importlib.metadata.version("animeface")
    return "" if found == VERSION else f"it has animeface {found} and needs {VERSION}: pip install 'stylewire[align]'"


def find_boxes(image: Image.Image) -> list[Box]:
    """Find drawn faces.

    Args:
        image: RGB.

    Returns:
        A box for each face, around its features without hair.
    """
    from animeface import _nvxs  # noqa: PLC0415 - an extra; and its public function is what this replaces

    pixels = np.asarray(image.convert("RGBA"))  # [H, W, 4]: Pillow's images of three bands have four bytes a pixel too
    rows = (pixels.ctypes.data + np.arange(len(pixels)) * pixels.strides[0]).astype(np.uintp)
    view = _OldImage(
        mode=b"RGB",
        depth=8,
        bands=3,
        width_px=image.width,
        height_px=image.height,
        rows_of_pixels=rows.ctypes.data,
        rows=rows.ctypes.data,
    )
    _check_head(view)
    found: list[dict[str, Any]] = _nvxs.detect(view)
    return [(x, y, x + width, y + height) for x, y, width, height in (each["face_box"] for each in found)]


def _check_head(view: _OldImage) -> None:
    """Raise RuntimeError where ctypes does not keep the pointer to the structure behind the object's head.

    The native function follows that pointer.
    """
    pointer = ctypes.c_void_p.from_address(id(view) + object.__basicsize__).value
    if pointer != ctypes.addressof(view):
        raise RuntimeError("ctypes keeps its pointers elsewhere in this Python; drawn faces cannot be found")
