"""What the SDK costs and reaches: ``make bench-sdk``. A benchmark is never a test."""

import argparse
import sys
from pathlib import Path

from serving.sdk import busy, install, overhead
from stylewire.demo import MODELS

SEEDED = Path("build/bench/seeded256")


def main() -> int:
    """Print all tables, or those that are named; the exit code says whether the limits hold."""
    parser = argparse.ArgumentParser(prog="serving.sdk", description=__doc__)
    parser.add_argument("tables", nargs="*", help="overhead, busy, install; all by default")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--models", type=Path, nargs="*", default=[MODELS, *([SEEDED] if SEEDED.is_dir() else [])])
    options = parser.parse_args()
    wanted = options.tables or ["overhead", "busy", "install"]
    held = []
    if "overhead" in wanted:
        held.append(overhead.report(options.calls))
    if "busy" in wanted:
        held += [busy.report(models, options.backend, options.rounds, options.seconds) for models in options.models]
    if "install" in wanted:
        held.append(install.report())
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
