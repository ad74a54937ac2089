"""Inputs that follow the coverage of the server's Python: ``make bench-fuzz-guided``; needs atheris (libFuzzer).

The first byte of an input names the method, the rest is the request. libFuzzer keeps what reaches new lines and changes
it further: as bytes by itself, as fields and as wire format by ours.
"""

import asyncio
import os
import sys
from pathlib import Path
from random import Random

import atheris
from google.protobuf.message import DecodeError

with atheris.instrument_imports(include=["stylewire"], exclude=["stylewire.v1"]):
    from support.fuzz.target import Target

from stylewire import pb
from support.fuzz import messages
from support.fuzz.damage import trick
from support.fuzz.inputs import METHODS, Input

_FOLDER = Path("build/fuzz")
_SEEDS = 200


class Finding(Exception):  # noqa: N818 - what libFuzzer prints
    """The server did what it must not do."""


def _mutate(content: bytes, most: int, seed: int) -> bytes:
    random = Random(seed)  # noqa: S311 - libFuzzer repeats it
    choice, method = random.random(), METHODS[content[0] % len(METHODS)] if content else METHODS[0]
    if choice < 0.4:
        return bytes(atheris.Mutate(content, most))
    if choice < 0.5:
        return (content[:1] + trick(content[1:], random, b""))[:most]
    message = getattr(pb, f"{method}Request")()
    try:
        message.ParseFromString(content[1:])
    except DecodeError:
        return bytes(atheris.Mutate(content, most))
    messages.mutate(message, random)
    return (content[:1] + message.SerializeToString())[:most]


def _write_seeds(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(_SEEDS):
        method, message = messages.valid(Random(number))  # noqa: S311 - the same every time
        (folder / f"valid{number}").write_bytes(bytes([METHODS.index(method)]) + message.SerializeToString())


def main() -> None:
    """Run libFuzzer with its own flags, such as ``-runs=100000``; it ends at the first finding."""
    corpus = _FOLDER / "corpus"
    _write_seeds(corpus)
    loop = asyncio.new_event_loop()
    target = loop.run_until_complete(Target.opened())

    def test(content: bytes) -> None:
        if not content:
            return
        given = Input("guided", METHODS[content[0] % len(METHODS)], content[1:])
        outcome = loop.run_until_complete(target.run(given))
        if outcome.finding:
            raise Finding(outcome.finding)

    flags = [f"-artifact_prefix={_FOLDER}/", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", *sys.argv[1:]]
    atheris.Setup([sys.argv[0], *flags, os.fspath(corpus)], test, custom_mutator=_mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
