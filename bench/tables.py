"""The one way in which a bench prints a table and writes its figures."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

_GAP = "  "


class Table:
    """Columns of fixed widths, so that a row can be printed as soon as it is measured.

    Args:
        columns: heading, colon, alignment and width as in a format string, such as ``ms/image:>10``. The heading
            widens a column that is narrower.
        indent: before every line.

    Attributes:
        headings: of the columns.
    """

    def __init__(self, *columns: str, indent: str = "") -> None:
        self.headings, forms = zip(*(column.rpartition(":")[::2] for column in columns), strict=True)
        self._alignments = [form[0] for form in forms]
        widths = [max(int(form[1:] or 0), len(heading)) for form, heading in zip(forms, self.headings, strict=True)]
        self._forms = [f"{side}{width or 1}" for side, width in zip(self._alignments, widths, strict=True)]
        self._indent = indent

    def line(self, cells: Sequence[object]) -> str:
        """Write a row; None is a dash."""
        written = (f"{_text(cell):{form}}" for cell, form in zip(cells, self._forms, strict=True))
        return (self._indent + _GAP.join(written)).rstrip()

    def text(self, rows: Iterable[Sequence[object]]) -> str:
        """Write the headings and all rows."""
        return "\n".join(map(self.line, (self.headings, *rows)))

    def markdown(self, rows: Iterable[Sequence[object]]) -> str:
        """Write the headings and all rows as Markdown."""
        rule = "".join(" ---: |" if side == ">" else " --- |" for side in self._alignments)
        first, *rest = (f"| {' | '.join(map(_text, row))} |" for row in (self.headings, *rows))
        return "\n".join([first, f"|{rule}", *rest])

    def print_headings(self) -> None:
        """Print the headings."""
        print(self.line(self.headings), flush=True)

    def print_row(self, *cells: object) -> None:
        """Print a row."""
        print(self.line(cells), flush=True)


def figure(value: float | None, form: str) -> str | None:
    """Format a number; None stays None."""
    return None if value is None else format(value, form)


def write_json(path: Path, figures: object, *, quiet: bool = False) -> None:
    """Write the figures behind the tables, and print where they are, unless that would be said often."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if not quiet:
        print(f"written to {path}", flush=True)


def _text(cell: object) -> str:
    return "-" if cell is None else str(cell)
