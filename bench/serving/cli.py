"""How fast the command line starts: ``python -m serving.cli [--rounds N]`` with bench/ on the path."""

import argparse
import statistics
import subprocess
import sys
import time

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
    spent: dict[str, list[float]] = {line: [] for line in _LINES}
    for _ in range(rounds):
        for line, arguments in _LINES.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
            spent[line].append(time.perf_counter() - started)
    print("| command | median ms | fastest ms |\n| --- | ---: | ---: |")
    for line, seconds in spent.items():
        print(f"| `{line}` | {statistics.median(seconds) * 1e3:.0f} | {min(seconds) * 1e3:.0f} |")


if __name__ == "__main__":
    main()
