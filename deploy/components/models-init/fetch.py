"""Download an archive of model directories and unpack it, if its SHA-256 is the one that was asked for.

Runs in an init container with nothing but Python: MODELS_URL and MODELS_SHA256 say what, the argument says where to.
"""

import hashlib
import os
import sys
import tarfile
import urllib.request
from pathlib import Path

_CHUNK_BYTES = 1 << 20
_SILENCE_SECONDS = 60


def main() -> int:
    """Fetch the models; returns the exit code."""
    url, digest, target = os.environ["MODELS_URL"], os.environ["MODELS_SHA256"].lower(), Path(sys.argv[1])
    archive = target / ".models.tar"
    try:
        verify(download(url, archive), digest)
        with tarfile.open(archive) as members:
            members.extractall(target, filter="data")  # no links or paths out of the folder, no devices
    except (OSError, ValueError, tarfile.TarError) as err:
        print(f"models from {url} are refused: {err}", file=sys.stderr)
        return 1
    finally:
        archive.unlink(missing_ok=True)
    print(f"models from {url}: {', '.join(sorted(path.name for path in target.iterdir()))}")
    return 0


def download(url: str, archive: Path) -> str:
    """Write what a URL gives into a file; returns its SHA-256 in hex."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=_SILENCE_SECONDS) as answer, archive.open("wb") as file:
        while chunk := answer.read(_CHUNK_BYTES):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def verify(found: str, wanted: str) -> None:
    """Raise ValueError if the digests differ."""
    if found != wanted:
        raise ValueError(f"its SHA-256 is {found}, not {wanted}")


if __name__ == "__main__":
    sys.exit(main())
