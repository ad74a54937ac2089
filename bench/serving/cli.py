"""How fast the command line starts: ``python -m serving.cli [--rounds N]`` with bench/ on the path."""

import argparse
import statistics
import subprocess
import sys
from functools import partial

from interleave import seconds_per_run, take_turns
from tables import Table

TABLE = Table("command:<", "median ms:>", "fastest ms:>")
_LINES = {
    "an empty program": ["-c", "pass"],
    "import grpc, numpy": ["-c", "import grpc, numpy"],
    "stylewire --help": ["-m", "stylewire", "--help"],
    "stylewire version": ["-m", "stylewire", "version"],
    "stylewire generate --help": ["-m", "stylewire", "generate", "--help"],
    "stylewire health --help": ["-m", "stylewire", "health", "--help"],
}


def main() -> None:
    """Run all lines in turn, round by round, so that whatever else runs slows them alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    runs = {line: partial(_run, arguments) for line, arguments in _LINES.items()}
    spent = take_turns({line: partial(seconds_per_run, run) for line, run in runs.items()}, range(rounds))
    rows = [
        (f"`{line}`", f"{statistics.median(each) * 1e3:.0f}", f"{min(each) * 1e3:.0f}") for line, each in spent.items()
    ]
    print(TABLE.markdown(rows))


def _run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
