"""Files that are whole or absent."""

import os
import threading

import numpy as np
import PIL.Image
import pytest

from stylewire.client.results import Picture
from stylewire.files import replacing
from stylewire.media.sheets import save_animation, save_sheet


def test_file_appears_when_it_is_whole(tmp_path):
    """Until the writing has ended nothing has the name, and afterwards nothing else is in the folder."""
    path = tmp_path / "a.png"
    with replacing(path) as draft:
        draft.write_bytes(b"half")
        seen = path.exists()

    assert not seen
    assert ".png" == draft.suffix
    assert [path] == list(tmp_path.iterdir())
    assert b"half" == path.read_bytes()


def test_failed_writing_leaves_what_was_there(tmp_path):
    """An error in the middle keeps the old file and leaves no draft."""
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        _interrupted(path)

    assert b"old" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def _interrupted(path):
    with replacing(path) as draft:
        draft.write_bytes(b"ha")
        raise KeyboardInterrupt


def test_link_stays_a_link(tmp_path):
    """The file behind a link is replaced, not the link."""
    file, link = tmp_path / "file.png", tmp_path / "link.png"
    file.write_bytes(b"old")
    link.symlink_to(file)
    with replacing(link) as draft:
        draft.write_bytes(b"new")

    assert link.is_symlink()
    assert b"new" == file.read_bytes()


def test_pipe_is_written_to(tmp_path):
    """A pipe is not replaced by a file: its reader gets the bytes."""
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with replacing(pipe) as draft:
        draft.write_bytes(b"bytes")
    reader.join()

    assert [b"bytes"] == read


class BrokenImage(PIL.Image.Image):
    """Writes some bytes of a file, then fails as a full disk does."""

    def save(self, path, *_, **__):
        path.write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")


SAVERS = {
    "picture": lambda image, path: _picture(image).save(path),
    "sheet": lambda picture, path: save_sheet(picture, path, None),
    "animation": lambda image, path: save_animation([image], path, frames_per_second=25),
}


class _OfImage(Picture):
    """A picture that must be converted to be written."""

    image = BrokenImage()


def _picture(_):
    return _OfImage(content=b"", mime_type="image/jpeg", tensor=None, width_px=1, height_px=1)


@pytest.mark.parametrize("saver", SAVERS)
def test_full_disk_leaves_no_half_picture(tmp_path, saver):
    """Whatever writes a picture leaves the folder as it was when the writing fails."""
    with pytest.raises(OSError, match="No space left"):
        SAVERS[saver](BrokenImage(), tmp_path / "a.png")

    assert [] == list(tmp_path.iterdir())


def test_saved_picture_is_readable_by_others(tmp_path):
    """A saved file has the permissions that any new file has."""
    plain = tmp_path / "plain"
    plain.touch()
    pixels = np.zeros((2, 2, 3), np.uint8)
    saved = Picture(content=b"", mime_type="", tensor=pixels, width_px=2, height_px=2).save(tmp_path / "a.png")

    assert plain.stat().st_mode == saved.stat().st_mode
