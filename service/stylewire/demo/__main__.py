"""``python -m stylewire.demo``: start a server, ask for everything it can do, write a page, stop it."""

import argparse
import sys
from pathlib import Path

from stylewire.demo.tour import run


def main() -> int:
    """Run the tour; the exit code is 0 only when every step worked."""
    parser = argparse.ArgumentParser(prog="python -m stylewire.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the page (default: out)")
    return run(parser.parse_args().out)


if __name__ == "__main__":
    sys.exit(main())
