"""docs/promises.md: every proof that it names is there."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[3]
TABLE = (PROJECT / "docs" / "promises.md").read_text(encoding="utf-8")


def proofs():
    """File and name of each test in the table; ``::name`` stands for the file before it."""
    file = ""
    for found_file, name in re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", TABLE):
        file = found_file or file
        if found_file or name:
            yield file, name


def test_named_tests_are_there():
    """A promise is proved by tests that exist."""
    named = list(proofs())
    missing = [
        (file, name)
        for file, name in named
        if not (PROJECT / file).is_file()
        or (
            name
            and not re.search(rf"^(async )?def {name}\(", (PROJECT / file).read_text(encoding="utf-8"), re.MULTILINE)
        )
    ]

    assert len(named) > 50
    assert [] == missing


def test_named_targets_are_there():
    """A figure comes from a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert set() == set(re.findall(r"`make ([a-z-]+)", TABLE)) - targets
