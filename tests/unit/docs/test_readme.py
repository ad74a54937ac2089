"""Every block of the README and of the pages in docs/ is executed, or says why not."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from stylewire.server.front.preprocessing import face_detectors
from support.authority import Authority
from support.drawing import drawn_face
from support.models import random_generator
from support.pictures import astronaut, grains
from support.screens import said, screens
from support.servers import running_server

PROJECT = Path(__file__).parents[3]
README = PROJECT / "README.md"
_BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL)
_SECURED = "faces.example:8500"
"""The address that pages give to a server with TLS and tokens."""


class Block(NamedTuple):
    line: int
    language: str
    code: str
    reason: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(text[: match.start("code")].count("\n") + 1, match["language"], match["code"], match["reason"])
        for match in _BLOCK.finditer(text)
    ]


PAGES = [page for page in (README, *sorted((PROJECT / "docs").rglob("*.md"))) if blocks(page)]


def named(page):
    return str(page.relative_to(PROJECT))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """What pages export: a generator, and one that was fine-tuned from it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    base, finetuned = random_generator(seed=1), random_generator(seed=2)
    finetuned.mapping.load_state_dict(base.mapping.state_dict())
    torch.save({"g_ema": base.state_dict()}, folder / "network.pkl")
    torch.save({"g_ema": finetuned.state_dict()}, folder / "finetuned.pkl")
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch, demo_server, checkpoints):
    """A folder with the files that the pages speak of, and the commands on the path."""
    samples = Path(sys.modules["stylewire"].__file__).parent / "demo" / "samples"
    shutil.copy(samples / "avatar00.png", tmp_path / "avatar.png")
    astronaut().save(tmp_path / "photo.png")
    drawn_face().save(tmp_path / "drawing.png")
    grains().save(tmp_path / "nobody.png")
    shutil.copytree(checkpoints, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STYLEWIRE_ADDRESS", demo_server.address)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"])
    return tmp_path


@pytest.fixture
def secured(folder):
    """A server with mutual TLS and tokens, and in the folder what a client needs for it."""
    authority, token = Authority(folder), "correct-horse-battery-staple-0123456789"
    authority.issue()
    key, certificate = authority.client("web")
    for name, content in {"web.key": key, "web.pem": certificate, "token": token.encode()}.items():
        (folder / name).write_bytes(content)
    (folder / "tokens").write_text(f"web {token}\n")
    with running_server(
        tokens_file=folder / "tokens", tls_client_ca=authority.client_ca, **authority.settings
    ) as server:
        yield server


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_blocks_are_found_or_say_why_they_do_not_run(page):
    """The pattern finds all blocks, as many as there are fences; one without a test has its reason beside it."""
    assert page.read_text(encoding="utf-8").count("```") == 2 * len(blocks(page)) > 0
    assert all(len(block.reason) > 10 for block in blocks(page) if block.reason)


@pytest.mark.parametrize("page", [page for page in PAGES if not all(b.reason for b in blocks(page))], ids=named)
def test_page_runs(page, folder, demo_server, request):
    """What a page shows works as it stands, one block after the other, but for the addresses of servers."""
    addresses = {"localhost:8500": demo_server.address}
    if _SECURED in page.read_text(encoding="utf-8"):
        addresses[_SECURED] = request.getfixturevalue("secured").address
    if page.name == "alignment.md" and (
        reason := face_detectors.missing("face", None) or face_detectors.missing("anime", None)
    ):
        pytest.skip(reason)
    names: dict[str, object] = {}
    for block in blocks(page):
        code = block.code
        for shown, real in addresses.items():
            code = code.replace(shown, real)
        if not block.reason:
            run(Block(block.line, block.language, code, None), page, names, addresses)

    assert page != README or (folder / "seed7.png").exists()


def run(block: Block, page: Path, names: dict[str, object], addresses: dict[str, str]) -> None:
    if block.language == "python":
        exec(compile("\n" * (block.line - 1) + block.code, page, "exec"), names)
        return
    if block.language == "console":
        for screen in screens(block.code):
            now = said(screen.command, addresses)
            assert screen.shown == now, f"{named(page)}:{block.line}: {screen.command} -> make screens"
        return
    assert "sh" == block.language, f"{named(page)}:{block.line}: nothing runs {block.language}; say why"
    for line in block.code.splitlines():
        done = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=120, check=False)
        assert 0 == done.returncode, f"{named(page)}:{block.line}: {line}\n{done.stdout}{done.stderr}"
