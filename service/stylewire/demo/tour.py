"""The tour in order: start a server, play the scenes, write the page, stop the server."""

import sys
import time
import urllib.request
from pathlib import Path

from stylewire.client import Client
from stylewire.client.results import Inversion
from stylewire.demo.page import Played, write_page
from stylewire.demo.scenes import SCENES, Scene, Shown
from stylewire.errors import StylewireError
from stylewire.media.provenance import Provenance, combine
from stylewire.media.sheets import enlarged, save_animation, save_sheet
from stylewire.testing.launcher import ServerProcess, ServerProcessError

_ZOOM = 2
_FRAMES_PER_SECOND = 20


def run(out: Path, *server_arguments: str) -> int:
    """Make the page in a folder.

    Args:
        out: the folder; made when absent.
        *server_arguments: further flags of ``stylewire serve``.

    Returns:
        0 when every step worked, 1 otherwise, 130 after Ctrl-C.
    """
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    try:
        # Without a backend: the tour shows the defaults.
        with ServerProcess(*server_arguments, log_path=out / "server.log", start_timeout_seconds=60) as server:
            _say(f"server ready on {server.address} after {server.start_seconds:.1f} s")
            page = _tour(server, out, started)
            server.stop(check=True)
        _say("server stopped cleanly")
    except (ServerProcessError, StylewireError, OSError) as error:
        print(f"demo failed: {error}", file=sys.stderr)  # noqa: T201 - a program of its own
        return 1
    except KeyboardInterrupt:
        return 130
    _say(f"done in {time.perf_counter() - started:.1f} s: open {page}")
    return 0


def _tour(server: ServerProcess, out: Path, started: float) -> Path:
    with Client(server.address) as client:
        models = client.models()
        first = client.model()
        _say(f"models: {', '.join(model.name for model in models)}; the default is {first.name}")
        played = [_play(scene, client, out) for scene in SCENES]
    facts = {
        "server ready": f"{server.start_seconds:.1f} s",
        "whole tour": f"{time.perf_counter() - started:.1f} s",
        "answers": str(sum(len(each.shown.answers) for each in played)),
        "largest batch": str(max(answer.batch_size for each in played for answer in each.shown.answers)),
        "runs on": f"{first.backend}, {first.device}",
    }
    page = out / "index.html"
    write_page(page, played, models, _read_metrics(server.metrics_url), facts)
    return page


def _play(scene: Scene, client: Client, out: Path) -> Played:
    started = time.perf_counter()
    shown = scene(client)
    seconds = time.perf_counter() - started
    files, origin = {}, combine(_origins(shown))
    if shown.frames:
        files["all frames"] = f"{scene.__name__}.gif"
        path = out / files["all frames"]
        save_animation(shown.frames, path, frames_per_second=_FRAMES_PER_SECOND, zoom=2 * _ZOOM, origin=origin)
    for index, (caption, picture) in enumerate(shown.pictures.items()):
        files[caption] = f"{scene.__name__}{index or ''}.png"
        save_sheet(enlarged(picture, _ZOOM), out / files[caption], origin)
    _say(f"{scene.__name__}: {', '.join(files.values()) or 'text'} ({len(shown.answers)} answers in {seconds:.2f} s)")
    return Played(scene=scene, shown=shown, files=files, wall_seconds=seconds)


def _origins(shown: Shown) -> list[Provenance | None]:
    """Say where the pictures of a scene come from; samples say nothing."""
    drawn = [answer.reconstruction if isinstance(answer, Inversion) else answer for answer in shown.answers]
    origins = [picture.provenance for picture in drawn if picture is not None]
    return [None, *origins] if shown.has_samples else origins


def _read_metrics(url: str) -> str:
    # Without a proxy: the address is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as response:
        return str(response.read(), "utf-8")


def _say(text: str) -> None:
    print(f"demo: {text}", flush=True)  # noqa: T201 - a program of its own
