"""What the base install takes: megabytes in a fresh environment, and seconds to import."""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

_IMPORT = "import time; t = time.perf_counter(); import stylewire{}; print(time.perf_counter() - t)"
_IMPORTS = {
    "import stylewire": "",
    "and Client": "; stylewire.Client",
    "and stylewire.testing": ".testing",
}
_REPEATS = 9


def report() -> bool:
    """Print seconds and megabytes; return whether they are 0.3 s, and 60 MB to download, at most."""
    print(f"\nimport, the fastest of {_REPEATS} processes and their median")
    medians = []
    for name, more in _IMPORTS.items():
        seconds = sorted(_import_seconds(sys.executable, more) for _ in range(_REPEATS))
        medians.append(seconds[_REPEATS // 2])
        print(f"  {name:24} {seconds[0]:.3f} s   {medians[-1]:.3f} s", flush=True)
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
    print("\nbase install, MB                downloaded   installed (without compiled Python)")
    for name, size in sorted(unpacked.items(), key=lambda pair: -pair[1])[:8]:
        print(f"  {name:26} {loaded[name] / 1e6:12.1f} {size / 1e6:11.1f}")
    print(f"  {'all':26} {sum(loaded.values()) / 1e6:12.1f} {sum(unpacked.values()) / 1e6:11.1f}", flush=True)
    return sum(loaded.values()) <= 60e6


def _installed_bytes(target: Path, name: str) -> int:
    """Add up what the list of a distribution's files names."""
    (record,) = target.glob(f"{name}-*.dist-info/RECORD")
    rows = csv.reader(record.read_text(encoding="utf-8").splitlines())
    return sum((target / path).stat().st_size for path, *_ in rows if (target / path).is_file())
