"""The tour in order: start a server, play the scenes, write the page, stop the server."""

import sys
import time
import urllib.request
from pathlib import Path

from stylewire.client import Client
from stylewire.client.results import Inversion
from stylewire.demo.page import SceneRun, write_page
from stylewire.demo.scenes import SCENES, Scene, SceneOutput
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
            _log(f"server ready on {server.address} after {server.start_seconds:.1f} s")
            page = _tour(server, out, started)
            server.stop(check=True)
        _log("server stopped cleanly")
    except (ServerProcessError, StylewireError, OSError) as error:
        print(f"demo failed: {error}", file=sys.stderr)  # noqa: T201 - a program of its own
        return 1
    except KeyboardInterrupt:
        return 130
    _log(f"done in {time.perf_counter() - started:.1f} s: open {page}")
    return 0


def _tour(server: ServerProcess, out: Path, started: float) -> Path:
    with Client(server.address) as client:
        models = client.models()
        first = client.model()
        _log(f"models: {', '.join(model.name for model in models)}; the default is {first.name}")
        runs = [_run_scene(scene, client, out) for scene in SCENES]
    facts = {
        "server ready": f"{server.start_seconds:.1f} s",
        "whole tour": f"{time.perf_counter() - started:.1f} s",
        "answers": str(sum(len(each.output.results) for each in runs)),
        "largest batch": str(max(result.batch_size for each in runs for result in each.output.results)),
        "runs on": f"{first.backend}, {first.device}",
    }
    page = out / "index.html"
    write_page(page, runs, models, _read_metrics(server.metrics_url), facts)
    return page


def _run_scene(scene: Scene, client: Client, out: Path) -> SceneRun:
    started = time.perf_counter()
    output = scene(client)
    seconds = time.perf_counter() - started
    files, origin = {}, combine(_origins(output))
    if output.frames:
        files["all frames"] = f"{scene.__name__}.gif"
        path = out / files["all frames"]
        save_animation(output.frames, path, frames_per_second=_FRAMES_PER_SECOND, zoom=2 * _ZOOM, origin=origin)
    for index, (caption, picture) in enumerate(output.pictures.items()):
        files[caption] = f"{scene.__name__}{index or ''}.png"
        save_sheet(enlarged(picture, _ZOOM), out / files[caption], origin)
    _log(f"{scene.__name__}: {', '.join(files.values()) or 'text'} ({len(output.results)} answers in {seconds:.2f} s)")
    return SceneRun(scene=scene, output=output, files=files, wall_seconds=seconds)


def _origins(output: SceneOutput) -> list[Provenance | None]:
    """List the provenance of the pictures of a scene; samples have none."""
    drawn = [each.reconstruction if isinstance(each, Inversion) else each for each in output.results]
    origins = [picture.provenance for picture in drawn if picture is not None]
    return [None, *origins] if output.has_samples else origins


def _read_metrics(url: str) -> str:
    # Without a proxy: the address is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as response:
        return str(response.read(), "utf-8")


def _log(text: str) -> None:
    print(f"demo: {text}", flush=True)  # noqa: T201 - a program of its own
