"""Codes in files: ``.npz`` as NVIDIA's projector writes it, and what else holds codes without running anything.

A code is float32[L, D]; shapes as in ``latents.py``.
"""

import os
import zipfile
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from stylewire.files import replacing
from stylewire.latents import Array

PathLike: TypeAlias = "str | os.PathLike[str]"

_KEYS = ("w", "dlatents", "w_plus", "latents", "codes")
"""``w``: NVIDIA's projected_w.npz, and ours; ``dlatents``: the projector of stylegan2-ada; then what people write."""
_HOW_TO_CONVERT = (
    "it holds pickled Python objects, which could run anything when read; where it was made, convert it: "
    "np.savez('codes.npz', w=np.stack([np.asarray(each) for each in "
    "np.load('latents.npy', allow_pickle=True).item().values()])), "
    "or for a .pt file np.savez('codes.npz', w=torch.load('latents.pt').cpu().numpy())"
)


def save_code(path: PathLike, code: ArrayLike) -> Path:
    """Write a code as ``.npz`` with the array ``w``, float32[1, L, D], as NVIDIA's ``projected_w.npz``.

    The file is whole or absent, whatever happens meanwhile.

    Args:
        path: ends with ``.npz``.
        code: float32[L, D].

    Raises:
        OSError: the file cannot be written.
        ValueError: the path has another suffix, or the array another shape.
    """
    target, array = Path(path), np.asarray(code, np.float32)
    if target.suffix.lower() != ".npz":
        raise ValueError(f"{target} does not end with .npz, the form of NVIDIA's projected_w.npz")
    if array.ndim != 2:
        raise ValueError(f"a code has shape [layers, w_dim], not {list(array.shape)}")
    with replacing(target) as draft, draft.open("wb") as file:
        np.savez(file, w=array[np.newaxis])  # [1, L, D]
    return target


def load_code(path: PathLike) -> Array:
    """Read a file of one code.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_code(save_code(f"{folder}/projected_w.npz", np.zeros((10, 4)))).shape
    (10, 4)

    Args:
        path: as for ``load_codes``.

    Returns:
        float32[L, D].

    Raises:
        OSError: as ``load_codes``.
        ValueError: as ``load_codes``; the file holds several codes.
    """
    codes = load_codes(path)
    if len(codes) != 1:
        raise ValueError(f"{path} holds {len(codes)} codes; load_codes reads them all")
    only: Array = codes[0]
    return only


def load_codes(path: PathLike) -> Array:
    """Read a file of one code or many; nothing in it is run.

    Args:
        path: ``.npz`` with one array, or one named ``w`` (NVIDIA's projector), ``dlatents`` (that of stylegan2-ada),
            ``w_plus``, ``latents`` or ``codes``; or ``.npy``. [L, D] or [N, L, D].

    Returns:
        float32[N, L, D].

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no codes, or is a pickle; the message has the line that converts it.
    """
    found = _read(Path(path))
    if found.ndim not in (2, 3) or found.dtype.kind not in "fiu" or not found.size:
        raise ValueError(
            f"{path}: an array of {found.dtype} {list(found.shape)} is no code: [layers, w_dim] or [n, layers, w_dim]"
        )
    codes: Array = found.astype(np.float32).reshape(-1, *found.shape[-2:])  # [N, L, D]
    return codes


def _read(path: Path) -> Array:
    with path.open("rb") as file:
        try:
            loaded: Array | np.lib.npyio.NpzFile = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else _choose(loaded)
        except (ValueError, EOFError, zipfile.BadZipFile) as err:
            raise ValueError(f"{path} cannot be read: {_explain(path, err)}") from err


def _choose(arrays: "np.lib.npyio.NpzFile") -> Array:
    names = arrays.files
    name = names[0] if len(names) == 1 else next((key for key in _KEYS if key in names), None)
    if name is None:
        raise ValueError(
            f"it has the arrays {', '.join(names) or 'none'}, and none of them is named {', '.join(_KEYS)}"
        )
    return arrays[name]


def _explain(path: Path, err: Exception) -> str:
    is_pickle = "allow_pickle" in f"{err}" or "ickle" in f"{err}"
    return _HOW_TO_CONVERT if is_pickle or path.suffix in (".pt", ".pth", ".pkl") else f"{err}"
