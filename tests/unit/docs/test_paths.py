"""Paths and links in the pages: what they name is there."""

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]
_FOLDERS = ("bench", "deploy", "docs", "export", "tests")
PAGES = [
    *sorted(PROJECT.glob("*.md")),
    *(page for name in _FOLDERS for page in sorted((PROJECT / name).rglob("*.md")) if "node_modules" not in page.parts),
]
CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
_FILES = re.compile(r"`((?:[\w.-]+/)+|(?:[\w.-]+/)*[\w-]+\.(?:py|md|proto|toml|txt|env))`")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_TOP = re.compile(r"`((?:service|export|protos|deploy|tests|bench|docs)/[\w./-]+)")
_ROOTS = (".", "service/stylewire", "service/stylewire/server", "service/stylewire/client", "export/stylewire_export")


def named(page):
    return str(page.relative_to(PROJECT))


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    """A link within the project leads to a file that is there, and to a heading in it."""
    text = page.read_text(encoding="utf-8")
    dead = [
        f"{path}#{anchor}"
        for path, anchor in _LINK.findall(text)
        if not (target := page.parent / path if path else page).exists()
        or (anchor and target.suffix == ".md" and anchor not in anchors(target))
    ]

    assert [] == dead


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_of_the_project_are_there(page):
    """A path from the top of the project is one."""
    paths = {path.rstrip("/.") for path in _TOP.findall(page.read_text(encoding="utf-8"))}

    assert set() == {path for path in paths if not (PROJECT / path).exists() and not (page.parent / path).exists()}


def test_tree_is_the_tree():
    """Every file and folder of CONTRIBUTING's tree is where the tree shows it."""
    tree = CONTRIBUTING.split("```")[3]
    above: list[tuple[int, Path]] = []
    missing, count = [], 0
    for line in tree.splitlines():
        indent, names = len(line) - len(line.lstrip()), re.split(r"\s{2,}", line.strip())[0].split()
        above = [(depth, folder) for depth, folder in above if depth < indent]
        folder = above[-1][1] if above else PROJECT
        missing += [f"{folder / name}" for name in names if not (folder / name).exists()]
        count += len(names)
        above += [(indent, folder / name) for name in names[:1] if name.endswith("/")]

    assert count > 60
    assert [] == missing


def test_files_to_touch_are_there():
    """Every file that CONTRIBUTING sends a reader to exists, below one of the folders that it speaks of."""
    files = set(_FILES.findall(CONTRIBUTING))
    rooms = [folder for root in _ROOTS for folder in (PROJECT / root, *(PROJECT / root).glob("front/*/"))]
    missing = {file for file in files if not any((room / file).exists() for room in rooms)}

    assert len(files) > 40
    assert set() == missing
