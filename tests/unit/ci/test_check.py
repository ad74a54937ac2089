"""`make check`: which tests belong to which changed files."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
SCRIPT = PROJECT / ".ci" / "check"
_CHECK = runpy.run_path(str(SCRIPT))
plan, SMOKE = _CHECK["plan"], _CHECK["SMOKE"]
TESTS = [
    "tests/unit/test_codes.py",
    "tests/unit/test_public_names.py",
    "tests/unit/bench/test_tables.py",
    "tests/unit/ci/test_check.py",
    "tests/unit/cli/test_main.py",
    "tests/unit/docs/test_promises.py",
    "tests/unit/engine/batching/test_queue.py",
    "tests/unit/engine/models/conftest.py",
    "tests/unit/engine/models/test_registry.py",
    "tests/unit/front/auth/test_tokens.py",
    "tests/unit/server/test_host.py",
    "tests/wire/test_generate.py",
]


@pytest.fixture
def root(tmp_path):
    """A checkout with a few tests."""
    for test in TESTS:
        (tmp_path / test).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / test).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "test"),
    [
        ("service/stylewire/server/front/auth/tokens.py", "tests/unit/front/auth"),
        ("service/stylewire/server/front/api/requests.py", "tests/unit/front"),
        ("service/stylewire/server/engine/backends/onnxruntime/cuda.py", "tests/unit/engine"),
        ("service/stylewire/server/engine_api/engine.py", "tests/unit/server"),
        ("service/stylewire/server/context.py", "tests/unit/server"),
        ("service/stylewire/cli/commands/mix.py", "tests/unit/cli"),
        ("service/stylewire/codes.py", "tests/unit/test_codes.py"),
        ("service/stylewire/__init__.py", "tests/unit/test_public_names.py"),
        ("bench/serving/path.py", "tests/unit/bench"),
        (".ci/check", "tests/unit/ci"),
        ("docs/speed.md", "tests/unit/docs/test_promises.py"),
        ("tests/unit/engine/models/conftest.py", "tests/unit/engine/models"),
        ("tests/wire/test_generate.py", "tests/wire/test_generate.py"),
    ],
)
def test_file_maps_to_the_nearest_tests(root, changed, test):
    """A file of a room runs the tests of that room, or of the nearest one above it; a changed test runs itself."""
    assert {test: changed} == plan([changed], root).tests


@pytest.mark.parametrize(
    "changed",
    [
        "service/stylewire/latents.py",
        "service/stylewire/v1/types_pb2.py",
        "export/stylewire_export/bundle.py",
        "tests/unit/test_gone.py",
        "tests/unit/conftest.py",
        "tests/conftest.py",
        "LICENSE",
    ],
)
def test_smoke_tests_run_where_nothing_maps(root, changed):
    """Something always runs, and never all unit tests at once."""
    assert set(SMOKE) == set(plan([changed], root).tests)


def test_room_covers_the_rooms_in_it(root):
    """No test is named twice."""
    changed = ["service/stylewire/server/engine/local_engine.py", "service/stylewire/server/engine/models/plan.py"]

    assert ["tests/unit/engine"] == list(plan(changed, root).tests)


def test_what_is_left_out_is_named(root):
    """Slow tests are not run; the plan names the command that runs them, once."""
    hints = plan(["export/stylewire_export/bundle.py", "export/stylewire_export/cli.py"], root).hints

    assert ["the export takes minutes: make test PYTEST=tests/export"] == hints


def test_smoke_tests_are_there():
    """The smoke tests exist."""
    assert all((PROJECT / test).is_file() for test in SMOKE)


def test_dry_run_prints_and_runs_nothing():
    """The plan is readable before it runs: each test with the file that it is run for."""
    command = [sys.executable, SCRIPT, "--dry-run", "--files", "service/stylewire/codes.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "tests/unit/test_codes.py  <- service/stylewire/codes.py" in done.stdout
    assert "$ mypy" in done.stdout
    assert "passed" not in done.stdout
