"""From a path to the object inside: which container is it, and may it be read at all. Suffixes play no part."""

import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stylewire_export.checkpoints.containers import torch_legacy, torch_zip
from stylewire_export.checkpoints.containers.torch_legacy import read_nested_storage
from stylewire_export.checkpoints.pickles.placeholders import Budget
from stylewire_export.checkpoints.pickles.safe_globals import nvidia_globals
from stylewire_export.checkpoints.pickles.unpickler import read_pickle
from stylewire_export.errors import CheckpointError, quote

MAX_FILE_BYTES = 8 * 2**30
SUPPORTED = (
    "supported are .pkl files of NVIDIA and .pt files of pSp, e4e and rosinality, also of its StyleGAN1, and of DCGAN "
    "and the SRResNet of anime faces"
)

_FOREIGN = {  # first bytes, from each format's specification -> what people know it by
    b"\x89HDF\r\n\x1a\n": "an HDF5 file (Keras, .h5)",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\xfd7zXZ\x00": "an xz archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"\x93NUMPY": "a NumPy array (.npy)",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"GGUF": "a GGUF file",
    b"PK\x05\x06": "an empty zip archive",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`",
}
_PLAIN_PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # protocols 2 to 5
_TEXT_SAMPLE_BYTES = 512
_SCANNED_BYTES = 2**16
_SHOWN_NAMES = 3
_TEXT_NAME = re.compile(rb"[ci]([A-Za-z_][A-Za-z_0-9.]{0,200})\n([A-Za-z_][A-Za-z_0-9.]{0,200})\n")  # GLOBAL, INST


@dataclass(frozen=True, slots=True)
class Content:
    """The object that a file holds, made of plain containers, numbers, strings and records of tensors."""

    root: object
    size_bytes: int


def read_content(path: Path) -> Content:
    """Read any supported container.

    Raises:
        CheckpointError: the file is missing, foreign, damaged, or does what no checkpoint does.
    """
    content = _map_file(path)
    budget = Budget(copied_bytes=len(content))
    if bytes(content[:4]) == torch_zip.MAGIC:
        root = torch_zip.read_zip(content, budget)
    elif bytes(content[: len(torch_legacy.MAGIC)]) == torch_legacy.MAGIC:
        root = torch_legacy.read_legacy(content, budget)
    elif bytes(content[:2]) in _PLAIN_PICKLE:
        allowed = nvidia_globals(budget, lambda nested: read_nested_storage(nested, budget))
        root, used = read_pickle(content, safe_globals=allowed, budget=budget)
        if used != len(content):
            raise CheckpointError("bytes follow the end of the pickle: the file is damaged")
    else:
        raise CheckpointError(f"{next(_guesses(content))}; {SUPPORTED}")
    return Content(root, len(content))


def _map_file(path: Path) -> memoryview:
    """Map a file: its bytes are read where they are needed, and never copied as a whole."""
    try:
        if path.exists() and not path.is_file():  # a pipe would block
            raise CheckpointError("not a regular file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise CheckpointError("the file is empty")
            if size > MAX_FILE_BYTES:
                raise CheckpointError(f"the file has {size} bytes (limit {MAX_FILE_BYTES})")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as err:
        raise CheckpointError(f"the file cannot be read: {err.strerror}") from err


def _guesses(content: memoryview) -> Iterator[str]:
    """Name what a file may be that is no supported container, the best guess first."""
    head = bytes(content[:_TEXT_SAMPLE_BYTES])
    yield from (kind for magic, kind in _FOREIGN.items() if head.startswith(magic))
    if bytes(content[257:262]) == b"ustar":
        yield "a tar archive (torch before 0.1.10, or files to unpack)"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < len(content):
        yield "a safetensors file"
    if (names := _scan_text_pickle(content)) is not None:
        yield f"a pickle of protocol 0 or 1, which no checkpoint uses; it was not run, and names {names}"
    if re.match(rb"\x08[\x01-\x20][\x12\x1a\x22\x2a\x32\x3a\x42]", head):
        yield "an ONNX model"
    if head.isascii() and not re.search(rb"[\x00-\x08\x0e-\x1f]", head):
        yield f"text, not a checkpoint (a failed download?), beginning with {quote(head.decode(), 60)}"
    yield f"an unknown kind of file, beginning with the bytes {head[:8].hex(' ')}"


def _scan_text_pickle(content: memoryview) -> str | None:
    """List the names in a pickle of protocol 0 or 1, which has no header, without running it; None if it is none."""
    head = bytes(content[:_SCANNED_BYTES])
    if head[:1] not in (b"(", b"c", b"]", b"}") or bytes(content[-1:]) != b".":
        return None
    names = [b".".join(pair).decode() for pair in _TEXT_NAME.findall(head)]
    if not names and not head.startswith((b"(dp", b"(lp")):
        return None
    return ", ".join(quote(name) for name in names[:_SHOWN_NAMES]) or "nothing"
