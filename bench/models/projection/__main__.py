"""What optimizing a code gains, and what it costs the other calls: ``make bench-projection``."""

import argparse
from pathlib import Path

from models.projection.gain import picture, print_gain
from models.projection.latency import TABLE, print_latency
from serving.process import serving
from stylewire import Client
from stylewire.demo import MODELS
from tables import write_json

_NICENESS = (0, 10, 19)


def main() -> None:
    """Print both tables and write build/bench/projection.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", choices=["gain", "latency", []], help="one of them; both by default")
    parser.add_argument("--pictures", type=int, default=16, help="of the 16 demo pictures")
    parser.add_argument("--rounds", type=int, default=7, help="turns with and without a projection")
    options = parser.parse_args()
    wanted, results = options.tables or ["gain", "latency"], dict[str, object]()
    if "gain" in wanted:
        print("Reconstructions of the demo's pictures by the model avatars, means:")
        with (
            serving(MODELS, "--backend", "auto", "--projection-niceness", "0") as server,
            Client(server.address, timeout=3600) as client,
        ):
            results["gain"] = print_gain(client, options.pictures)
    if "latency" in wanted:
        print("Generate, one caller, one picture a call: alone -> during a projection, medians of turns:")
        TABLE.print_headings()
        for niceness in _NICENESS:
            label = f"niceness {niceness}"
            with serving(MODELS, "--backend", "auto", "--projection-niceness", str(niceness)) as server:
                results[label] = print_latency(server.address, picture(0), options.rounds, label)
    write_json(Path("build/bench/projection.json"), results)


if __name__ == "__main__":
    main()
