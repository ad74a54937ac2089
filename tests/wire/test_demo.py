import re
from html import unescape

import PIL.Image
import pytest

from stylewire.demo.page import code_of
from stylewire.demo.scenes import SCENES, refusal
from stylewire.demo.tour import run


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The folder and the text of a page that the whole tour made."""
    out = tmp_path_factory.mktemp("demo")

    assert 0 == run(out)
    return out, (out / "index.html").read_text()


def test_demo_shows_every_picture_it_made(page):
    """Each picture is on the page, is a readable file beside it, and shows something."""
    out, text = page
    shown = set(re.findall(r'<img src="([^"]+)"', text))

    assert {path.name for path in out.iterdir() if path.suffix in {".png", ".gif"}} == shown
    assert len(shown) >= 9
    for name in shown:
        with PIL.Image.open(out / name) as picture:
            assert max(len(set(channel.get_flattened_data())) for channel in picture.convert("RGB").split()) > 30


def test_demo_shows_the_code_that_ran(page):
    """Beside each picture is the body of the function that made it."""
    _, text = page

    assert all(code_of(scene) in unescape(text) for scene in SCENES)


def test_demo_asks_every_rpc(page):
    """The metrics on the page count all six calls as answered."""
    _, text = page
    called = set(re.findall(r'grpc_code="OK",grpc_method="(\w+)"', unescape(text)))

    assert {"Generate", "Invert", "MixStyles", "Interpolate", "ListModels", "GetModel"} <= called


def test_demo_needs_no_network(page):
    """The page loads nothing from elsewhere."""
    _, text = page

    assert [] == re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"', text)


def test_demo_refusal_names_every_wrong_field(page):
    """The page shows the violations that the server found."""
    _, text = page

    assert all(name in text for name in ("latents[0].seed", "latents[1].truncation.psi", "output_config.quality"))


def test_code_of_leaves_the_docstring_out():
    """The code of a scene is its body alone."""
    code = code_of(refusal)

    assert code.startswith("try:\n    client.generate(")
    assert refusal.__doc__ not in code


def test_demo_fails_with_the_end_of_the_servers_log(tmp_path, capfd):
    """A server that cannot start ends the tour with exit code 1 and what the server said."""
    assert 1 == run(tmp_path, "--no-such-flag")
    assert re.search(r"demo failed: the server ended with exit code [12] before it was ready", capfd.readouterr().err)
