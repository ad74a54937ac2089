"""What all benches print and write with."""

import json

from tables import Table, figure, write_json


def test_columns_are_aligned_and_as_wide_as_their_headings():
    """A column has the width that is asked for, or that of its heading; nothing follows the last cell."""
    table = Table("name:<6", "images/s:>", "note:<9", indent=" ")

    assert [" name    images/s  note", " demo        12.5  -"] == table.text([("demo", "12.5", None)]).splitlines()


def test_heading_may_have_a_colon():
    """Only the last colon ends the heading."""
    assert ("base: p50",) == Table("base: p50:>12").headings


def test_markdown_keeps_the_alignment():
    """Right-aligned columns are so in Markdown, too."""
    table = Table("name:<6", "ms:>5")

    assert ["| name | ms |", "| --- | ---: |", "| demo | - |"] == table.markdown([("demo", None)]).splitlines()


def test_missing_figure_stays_missing():
    """What was not measured is no number."""
    assert ("2.50", None) == (figure(2.5, ".2f"), figure(None, ".2f"))


def test_json_is_written_into_a_new_folder(tmp_path, capsys):
    """The folder need not be there; the path is printed."""
    path = tmp_path / "new" / "figures.json"
    write_json(path, {"a": [1]})

    assert {"a": [1]} == json.loads(path.read_text())
    assert f"written to {path}\n" == capsys.readouterr().out
