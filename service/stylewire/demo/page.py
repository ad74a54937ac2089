"""The page of the tour: scenes, timings, models and metrics as one HTML file with its pictures beside it."""

import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from stylewire import pb
from stylewire.demo.scenes import Scene, SceneOutput

_METRICS_LINES = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRun:
    """A scene that was run.

    Attributes:
        scene: its function.
        output: what it returned.
        files: caption -> name of the picture's file beside the page.
        wall_seconds: how long it took, seen from the client.
    """

    scene: Scene
    output: SceneOutput
    files: Mapping[str, str]
    wall_seconds: float

    @property
    def name(self) -> str:
        """Name of the scene, as in the page's links and file names."""
        return self.scene.__name__


def write_page(
    path: Path, runs: Sequence[SceneRun], models: Sequence[pb.Model], metrics: str, facts: Mapping[str, str]
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        runs: the scenes in their order.
        models: what the server runs.
        metrics: the text of its metrics page.
        facts: label -> value, for the top of the page.
    """
    template = Template((Path(__file__).parent / "show.html").read_text(encoding="utf-8"))
    names = ["models", *(each.name for each in runs), "metrics"]
    page = template.substitute(
        facts="".join(f"<li><b>{escape(value)}</b>{escape(label)}</li>" for label, value in facts.items()),
        contents="".join(f'<a href="#{name}">{name}</a>' for name in names),
        models=_models_rows(models),
        scenes="\n".join(_section(each) for each in runs),
        metrics=escape("\n".join(_excerpt(metrics.splitlines()))),
        credits="<br>".join(escape(f"{each.name}: {each.attribution} ({each.license})") for each in models),
    )
    path.write_text(page, encoding="utf-8")


def code_of(scene: Scene) -> str:
    """Return the body of a scene's function without its docstring: the code that really ran."""
    lines = textwrap.dedent(inspect.getsource(scene)).splitlines()
    body = textwrap.dedent("\n".join(lines[1:]))
    return body.partition('"""')[2].partition('"""')[2].strip("\n")


def _section(run: SceneRun) -> str:
    figures = "".join(
        f'<figure><a href="{file}"><img src="{file}" alt="{escape(caption)}"></a>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, file in run.files.items()
    )
    text = f"<pre>{escape(run.output.text)}</pre>" if run.output.text else ""
    return f"""<section id="{run.name}">
  <h2>{run.name.capitalize()}</h2>
  <p>{escape(inspect.getdoc(run.scene) or "")}</p>
  <div class="pictures">{figures}</div>{text}
  <pre>{escape(code_of(run.scene))}</pre>
  <p class="timing">{escape(_timing(run))}</p>
</section>"""


def _timing(run: SceneRun) -> str:
    results = run.output.results
    wall = f"{run.wall_seconds * 1000:.0f} ms seen from the client"
    if not results:
        return f"Took {wall}."
    # Pictures of one call share one timing, and frames of one batch each report the whole batch: so no sums.
    calls = list({id(result.timing): result.timing for result in results}.values())
    queue, inference, encoding = (1000 * sum(part) / len(calls) for part in zip(*calls, strict=True))
    return (
        f"{len(results)} answers in {wall}. In the server, on average: {queue:.1f} ms waiting, {inference:.1f} ms in "
        f"the networks, {encoding:.1f} ms decoding and encoding. "
        f"Largest batch: {max(each.batch_size for each in results)}."
    )


def _models_rows(models: Iterable[pb.Model]) -> str:
    head = ("name", "architecture", "pictures", "code", "encoders", "latent space", "runs on", "digest")
    rows = [
        (
            f"{model.name} (default)" if model.default_model else model.name,
            model.architecture,
            f"{model.resolution_px} px",
            f"{model.layer_count} x {model.w_dim}",
            ", ".join(encoder.name for encoder in model.encoders),
            model.latent_space.removeprefix("sha256:")[:12],
            f"{model.backend} {model.device} {model.precision}",
            model.digest.removeprefix("sha256:")[:12],
        )
        for model in models
    ]
    cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return "<tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr>" + "".join(f"<tr>{row}</tr>" for row in cells)


def _excerpt(lines: Sequence[str]) -> list[str]:
    """Select the most telling samples: calls, batches, totals; histograms by their sum and count only."""
    chosen = [
        line
        for line in lines
        if line.startswith(("grpc_server_handled_total", "stylewire_"))
        and "_bucket{" not in line
        and not line.endswith(" 0.0")
    ]
    return chosen[:_METRICS_LINES] + ["..."] * (len(chosen) > _METRICS_LINES)
