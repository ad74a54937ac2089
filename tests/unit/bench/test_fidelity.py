"""The fidelity report: what it prints of a golden case, and that a broken bound ends it with exit code 1."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.fidelity.report import TABLE, Allowance, Meter, Row, cells, markdown_table

PROJECT = Path(__file__).parents[3]
METER = Meter("ada64", "onnxruntime")


def run(*arguments):
    folders = [PROJECT / name for name in ("service", "export", "tests", "bench")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-m", "models.fidelity", "--backends", "onnxruntime", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.fixture
def small_golden(golden, tmp_path):
    """A copy of one generator of the golden data, whose arrays a test may change."""
    shutil.copytree(golden / "ada16odd", tmp_path / "golden" / "ada16odd")
    return tmp_path / "golden"


def test_report_ends_well_when_all_bounds_hold(small_golden, golden, tmp_path):
    """One line a comparison, all ok, and the table of the README in its file."""
    for name in ("preprocess", "align"):
        (small_golden / name).symlink_to(golden / name)
    result = run("--golden", small_golden, "--markdown", tmp_path / "table.md")
    lines = [line for line in result.stdout.splitlines() if line.startswith(("ada16odd", "preprocess", "align"))]

    assert 0 == result.returncode, result.stderr
    assert all(line.endswith("  ok") for line in lines)
    assert {"w", "w: psi 0.7", "image: stored noise", "image: no noise", "image: mixed w+"} <= {
        line[24:52].strip() for line in lines
    }
    assert f"{len(lines)} comparisons, 0 broken" in result.stdout
    table = (tmp_path / "table.md").read_text()
    assert 3 == table.count("| ada16odd") + table.count("| align")


def test_report_ends_with_1_when_a_bound_is_broken(small_golden):
    """Another w than the original's is named, and the report fails."""
    path = small_golden / "ada16odd" / "io.npz"
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(path, **arrays | {"w": arrays["w"] * 1.0001})

    result = run("--golden", small_golden)

    assert 1 == result.returncode
    assert [True] == [line.endswith("BROKEN") for line in result.stdout.splitlines() if line[24:52].strip() == "w"]


@pytest.mark.parametrize(
    ("quantity", "error", "kept"),
    [("w", 9e-6, True), ("w", 2e-5, False), ("codes", 9e-5, True), ("codes", 2e-4, False), ("image", 3e-4, False)],
)
def test_values_are_held_to_the_bounds_of_the_project(quantity, error, kept):
    """Each quantity has its bound, relative to the range of the original's values."""
    expected = np.linspace(-1, 1, 12, dtype=np.float64).reshape(1, 3, 2, 2)
    got = expected + 2 * error * (expected == 1)

    assert kept == METER.values(quantity, "", expected, got).kept


def test_nan_breaks_a_bound():
    """A network that gives NaN is not near to anything."""
    expected = np.zeros((1, 3, 2, 2))

    assert not METER.values("image", "", expected, expected * np.nan).kept


def test_bytes_may_differ_only_at_ties():
    """A byte that differs by one level where the image is not at a step is a broken bound."""
    tie, clear = np.full((1, 1, 1, 1), 1 / 127.5), np.full((1, 1, 1, 1), 0.2 / 127.5)
    pixels = np.full((1, 1, 1, 1), 128, np.uint8)

    kept, broken = (
        METER.picture("", {"image": image, "pixels": pixels}, {"image": image, "pixels": pixels + np.uint8(1)}, "round")
        for image in (tie, clear)
    )

    assert (True, False) == (kept.kept, broken.kept)
    assert "1/1" == str(broken.pixels)


def test_files_are_held_to_levels_and_share():
    """Bytes of a stored file may differ by the levels and in the share that are granted."""
    expected, got = np.zeros(100, np.uint8), np.zeros(100, np.uint8)
    got[0] = 1

    assert METER.files("files", "", expected, got, Allowance(1, 0.01)).kept
    assert not METER.files("files", "", expected, got, Allowance(1, 0.001)).kept
    assert not METER.files("files", "", expected, got * 2, Allowance(1, 0.01)).kept


def test_markdown_shows_the_worst_of_a_case():
    """One line a case and quantity: its worst error, all differing bytes, its lowest PSNR, for every backend."""
    rows = [
        Row(case="a", quantity="image", detail=detail, backend=backend, error=error, psnr_db=psnr)
        for backend, detail, error, psnr in (("x", "one", 1e-6, 120), ("x", "two", 3e-6, 110), ("y", "one", 2e-6, 90))
    ]

    assert "| a | image (one, two) | 3.0e-06 | 2.0e-06 |  |  | 110 | 90 |" == markdown_table(rows).splitlines()[-1]
    assert "image: one" == TABLE.line(cells(rows[0]))[24:52].strip()
