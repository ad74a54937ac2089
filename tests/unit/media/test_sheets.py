import numpy as np
import PIL.Image
import pytest

from stylewire.media.sheets import in_rows, save_animation, save_sheet, sheet


def square(level, size=4):
    return PIL.Image.fromarray(np.full((size, size), level, np.uint8))


def test_sheet_places_cells_in_rows_and_columns():
    """Cell (row, column) is at its place, gaps and empty cells are white."""
    pixels = np.asarray(sheet([[square(1), square(2)], [None, square(3)]], gap_px=1))[:, :, 0]

    assert (9, 9) == pixels.shape
    assert [1, 2, 255, 3] == [pixels[0, 0], pixels[0, 5], pixels[5, 0], pixels[5, 5]]
    assert (pixels[4] == 255).all()


def test_sheet_zoom_repeats_pixels():
    """Zooming is for looking: every pixel becomes a square of its own value."""
    picture = PIL.Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    pixels = np.asarray(sheet([[picture]], zoom=3))[:, :, 0]

    np.testing.assert_array_equal(np.kron(np.asarray(picture), np.ones((3, 3), np.uint8)), pixels)


def test_sheet_of_nothing_is_refused():
    """A sheet without a picture has no size."""
    with pytest.raises(ValueError, match="at least one"):
        sheet([[None], []])


@pytest.mark.parametrize(("count", "columns", "expected"), [(16, None, [4] * 4), (5, 3, [3, 2]), (1, None, [1])])
def test_rows_keep_all_pictures(count, columns, expected):
    """Pictures are broken into rows without losing any; about square when no width is given."""
    assert expected == [len(row) for row in in_rows([square(0)] * count, columns)]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_animation_has_every_frame(tmp_path, suffix):
    """An animation written and read again has the frames, their size and their speed."""
    path = tmp_path / f"a{suffix}"
    save_animation([square(level) for level in (0, 100, 200)], path, frames_per_second=20, zoom=2)
    with PIL.Image.open(path) as animation:
        animation.seek(2)
        animation.load()

        assert (3, (8, 8)) == (animation.n_frames, animation.size)
        assert 50 == animation.info["duration"]


@pytest.mark.parametrize("name", ["a.webp", "a.jpg"])
def test_sheet_too_large_for_its_format_names_another(tmp_path, name):
    """What the format cannot hold is one sentence, and no file."""
    with pytest.raises(OSError, match=r"a sheet of 70000 x 1 px is no \..*; write \.png"):
        save_sheet(PIL.Image.new("RGB", (70_000, 1)), tmp_path / name, None)

    assert [] == list(tmp_path.iterdir())
