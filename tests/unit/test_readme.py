"""Every block of the README is executed, or says why not."""

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

from support.models import random_generator

README = Path(__file__).parent.parent.parent / "README.md"
_BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL)


class Block(NamedTuple):
    line: int
    language: str
    code: str
    reason: str | None


def blocks() -> list[Block]:
    text = README.read_text(encoding="utf-8")
    return [
        Block(text[: match.start()].count("\n") + 1, match["language"], match["code"], match["reason"])
        for match in _BLOCK.finditer(text)
    ]


@pytest.fixture
def desk(tmp_path, monkeypatch, demo_server):
    """A folder with the files that the README speaks of, and the commands on the path."""
    samples = Path(sys.modules["stylewire"].__file__).parent / "demo" / "samples"
    shutil.copy(samples / "avatar00.png", tmp_path / "avatar.png")
    base, finetuned = random_generator(seed=1), random_generator(seed=2)
    finetuned.mapping.load_state_dict(base.mapping.state_dict())
    torch.save({"g_ema": base.state_dict()}, tmp_path / "network.pkl")
    torch.save({"g_ema": finetuned.state_dict()}, tmp_path / "finetuned.pkl")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STYLEWIRE_ADDRESS", demo_server.address)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"])
    return tmp_path


def test_readme_has_blocks():
    """The pattern finds them all: as many as there are fences."""
    assert README.read_text(encoding="utf-8").count("```") == 2 * len(blocks()) > 0


@pytest.mark.parametrize("block", [b for b in blocks() if not b.reason], ids=lambda b: f"line {b.line}")
def test_readme_block_runs(block, desk, demo_server):
    """What the README shows works as it stands, but for the address of the server."""
    code = block.code.replace("localhost:8500", demo_server.address)
    if block.language == "python":
        exec(compile(code, f"README.md:{block.line}", "exec"), {})
        assert (desk / "seed7.png").exists()
        return
    assert "sh" == block.language
    for line in code.splitlines():
        done = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=120, check=False)
        assert 0 == done.returncode, f"{line}\n{done.stdout}{done.stderr}"


def test_blocks_that_do_not_run_say_why():
    """A block without a test has its reason beside it."""
    assert all(len(block.reason) > 10 for block in blocks() if block.reason)
