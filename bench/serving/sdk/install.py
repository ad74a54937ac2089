"""What the base install takes: megabytes in a fresh environment, and seconds to import."""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from tables import Table

IMPORTS = Table("what:<24", "fastest:>", "median:>", indent="  ")
INSTALL = Table("package:<26", "downloaded:>12", "installed:>11", indent="  ")
_IMPORT = "import time; t = time.perf_counter(); import stylewire{}; print(time.perf_counter() - t)"
_IMPORTS = {
    "import stylewire": "",
    "and Client": "; stylewire.Client",
    "and stylewire.testing": ".testing",
}
_REPEATS = 9


def report() -> bool:
    """Print seconds and megabytes; return whether they are 0.3 s, and 60 MB to download, at most."""
    print(f"\nimport, seconds of {_REPEATS} processes")
    medians = []
    IMPORTS.print_headings()
    for name, more in _IMPORTS.items():
        seconds = sorted(_import_seconds(sys.executable, more) for _ in range(_REPEATS))
        medians.append(seconds[_REPEATS // 2])
        IMPORTS.print_row(name, f"{seconds[0]:.3f}", f"{medians[-1]:.3f}")
    return _install() & (medians[0] <= 0.3)


def _import_seconds(python: str, more: str) -> float:
    done = subprocess.run([python, "-c", _IMPORT.format(more)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _install() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        wheels, target = Path(folder) / "wheels", Path(folder) / "site"
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "wheel", "--constraint", "constraints.txt", "--wheel-dir", str(wheels), "."], check=True)
        files = sorted(wheels.iterdir())
        offline = ["--no-index", "--no-deps", "--no-compile", "--target", str(target)]
        subprocess.run([*pip, "install", *offline, *map(str, files)], check=True)
        loaded = {file.name.partition("-")[0]: file.stat().st_size for file in files}
        unpacked = {name: _installed_bytes(target, name) for name in loaded}
    largest = sorted(unpacked, key=lambda name: -unpacked[name])[:8]
    sizes = [(name, loaded[name], unpacked[name]) for name in largest]
    sizes.append(("all", sum(loaded.values()), sum(unpacked.values())))
    print("\nbase install, MB, without compiled Python")
    print(INSTALL.text((name, *(f"{size / 1e6:.1f}" for size in pair)) for name, *pair in sizes), flush=True)
    return sum(loaded.values()) <= 60e6


def _installed_bytes(target: Path, name: str) -> int:
    """Add up what the list of a distribution's files names."""
    (record,) = target.glob(f"{name}-*.dist-info/RECORD")
    rows = csv.reader(record.read_text(encoding="utf-8").splitlines())
    return sum((target / path).stat().st_size for path, *_ in rows if (target / path).is_file())
