"""The bench of videos runs, and says what it found."""

import json
import sys

from serving.video import main


def test_bench_prints_a_row_a_container(tmp_path, monkeypatch, capsys):
    """A short run has both containers, each compared with PNG and with the frames."""
    out = tmp_path / "video.json"
    monkeypatch.setattr(sys, "argv", ["video", "--rounds", "1", "--frames", "8", "--sizes", "64", "--out", str(out)])
    main()
    rows = json.loads(out.read_text())

    assert ["64 mp4", "64 webm"] == [row["video"] for row in rows]
    assert all(20 < row["decibels"] < 50 for row in rows)
    assert all(row["video"] in capsys.readouterr().out for row in rows[:1])
