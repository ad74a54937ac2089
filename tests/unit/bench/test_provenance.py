"""The bench of provenance runs, and says what it found."""

import json
import sys

from serving.provenance import main


def test_bench_prints_a_row_a_format(tmp_path, monkeypatch, capsys):
    """A short run has all formats, with the cost of a seed and of a code over the noise."""
    out = tmp_path / "provenance.json"
    monkeypatch.setattr(sys, "argv", ["provenance", "--rounds", "2", "--sizes", "64", "--out", str(out)])
    main()
    rows = json.loads(out.read_text())

    assert ["64 png", "64 jpeg", "64 webp"] == [row["picture"] for row in rows]
    assert all({"bare again", "seed", "code"} == row["over_bare"].keys() for row in rows)
    assert all(row["bytes"]["bare"] < row["bytes"]["seed"] < row["bytes"]["code"] for row in rows)
    assert all(row["picture"] in capsys.readouterr().out for row in rows[:1])
