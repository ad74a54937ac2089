import numpy as np
import pytest
import torch

from stylewire import load_code, load_codes, save_code, w_plus
from stylewire.tensors import to_array

CODE = np.arange(40, dtype=np.float32).reshape(10, 4)  # [L, D]


def test_code_is_saved_as_nvidias_projector_saves(tmp_path):
    """The file has one array ``w``, float32[1, L, D], and is read back as the code."""
    path = save_code(tmp_path / "projected_w.npz", CODE.astype(np.float64))
    with np.load(path) as saved:
        assert {"w": ((1, 10, 4), np.float32)} == {key: (saved[key].shape, saved[key].dtype) for key in saved}

    np.testing.assert_array_equal(CODE, load_code(path))


@pytest.mark.parametrize(
    "arrays",
    [{"w": CODE}, {"dlatents": CODE[np.newaxis]}, {"anything": CODE}, {"w_plus": CODE, "z": CODE[0]}],
    ids=["one row less", "stylegan2-ada", "one array", "named among others"],
)
def test_files_of_others_are_read(tmp_path, arrays):
    """Codes are found under the names that the projectors use, with or without a first axis."""
    np.savez(tmp_path / "a.npz", **arrays)

    np.testing.assert_array_equal(CODE, load_code(tmp_path / "a.npz"))


def test_many_codes_are_read_together(tmp_path):
    """A file of many codes, as encoders write them, is read by ``load_codes`` only."""
    np.save(tmp_path / "latents.npy", np.stack([CODE, CODE + 1]))

    assert (2, 10, 4) == load_codes(tmp_path / "latents.npy").shape
    with pytest.raises(ValueError, match="holds 2 codes; load_codes"):
        load_code(tmp_path / "latents.npy")


def test_file_is_a_latent(tmp_path):
    """``w_plus`` takes the path of a file."""
    latent = w_plus(save_code(tmp_path / "a.npz", CODE), psi=0.5)

    np.testing.assert_array_equal(CODE, to_array(latent.w_plus))
    assert 0.5 == latent.truncation.psi


def _pickled_dictionary(path):
    np.save(path, {"a.jpg": CODE}, allow_pickle=True)


def _pickled_member(path):
    with path.open("wb") as file:
        np.savez(file, w=np.array({"a": CODE}, object))


def _torch_file(path):
    with path.with_suffix(".pt").open("wb") as file:
        torch.save(torch.from_numpy(CODE), file)
    return path.with_suffix(".pt")


@pytest.mark.parametrize("write", [_pickled_dictionary, _pickled_member, _torch_file])
def test_pickles_are_refused_with_the_way_to_convert(tmp_path, write):
    """Nothing in a file is run: pSp's dictionary and PyTorch's files are refused, saying how to convert them."""
    path = tmp_path / "latents.npy"
    path = write(path) or path
    with pytest.raises(ValueError, match=r"pickled Python objects.*np\.savez"):
        load_code(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": CODE, "b": CODE}, "none of them is named"),
        ({"w": CODE[0]}, "is no code"),
        ({"w": np.zeros((1, 1, 2, 3))}, "is no code"),
        ({"w": np.array([["a"]])}, "is no code"),
        ({"w": np.zeros((0, 4))}, "is no code"),
    ],
    ids=["two arrays", "a vector", "four axes", "words", "nothing"],
)
def test_what_is_no_code_is_refused(tmp_path, arrays, message):
    """A file without a code says what it has instead."""
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_code(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY\x01\x00"], ids=["empty", "zip", "npy"])
def test_damaged_file_is_named(tmp_path, content):
    """A file that was cut off is an error of one kind, with its name."""
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz cannot be read"):
        load_code(path)


@pytest.mark.parametrize(("name", "code"), [("a.npy", CODE), ("a.npz", CODE[0])], ids=["suffix", "shape"])
def test_wrong_file_is_not_written(tmp_path, name, code):
    """What others could not read as a code is not saved as one."""
    with pytest.raises(ValueError, match=r"\.npz|shape"):
        save_code(tmp_path / name, code)
    assert [] == list(tmp_path.iterdir())
