"""The scenes of the tour. Each is one function: its docstring is the text and its body the code that the page shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import PIL.Image
from PIL.Image import Image

from stylewire.client import Client
from stylewire.client.inputs import layers, noise, photo, seed, style, w_plus
from stylewire.client.results import Inversion, Result
from stylewire.demo import SAMPLES
from stylewire.errors import InvalidFieldError
from stylewire.media.sheets import in_rows, sheet


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneOutput:
    """The output of a scene.

    Attributes:
        pictures: caption -> sheet.
        frames: an animation; empty when nothing moves.
        text: something to read instead of a picture.
        has_samples: whether pictures that no model made are on the sheets.
        results: what the server returned, for its timings.
    """

    pictures: dict[str, Image]
    results: Sequence[Result | Inversion] = ()
    frames: Sequence[Image] = ()
    text: str = ""
    has_samples: bool = False


Scene: TypeAlias = Callable[[Client], SceneOutput]


def seeds(client: Client) -> SceneOutput:
    """A seed is a face. The same seed yields the same z as NVIDIA's generate.py, and always the same picture."""
    results = client.generate(range(40), psi=0.7)
    return SceneOutput(pictures={"seeds 0 to 39": sheet(in_rows(_images(results), 10))}, results=results)


def truncation(client: Client) -> SceneOutput:
    """Truncation trades variety for typical faces: psi 0 is the mean of all, 1 is the network's own answer."""
    psis = (-0.6, -0.3, 0, 0.3, 0.5, 0.7, 0.85, 1, 1.2)
    results = client.generate([seed(number, psi=psi) for number in (5, 6, 35) for psi in psis])
    caption = "psi " + ", ".join(f"{psi:g}" for psi in psis)
    return SceneOutput(pictures={caption: sheet(in_rows(_images(results), len(psis)))}, results=results)


def mixing(client: Client) -> SceneOutput:
    """Styles mix: in each cell the face on the left keeps all layers but those it takes from the face on top."""
    contents, sources = (5, 11, 37, 61), (2, 10, 35, 14)
    heads = {number: client.generate(number, psi=0.7)[0] for number in {*contents, *sources}}
    pictures: dict[str, Image] = {}
    results: list[Result] = []
    for role in ("coarse", "middle", "fine"):
        rows: list[list[Image | None]] = [[None, *(heads[source].image for source in sources)]]
        for content in contents:
            mixed = [client.mix_styles(content, style(source, layers(role)), psi=0.7) for source in sources]
            rows.append([heads[content].image, *_images(mixed)])
            results += mixed
        pictures[f"{role} layers from the top row"] = sheet(rows)
    return SceneOutput(pictures=pictures, results=results)


def interpolation(client: Client) -> SceneOutput:
    """Frames stream in while the server makes the next ones. This path is a closed cubic spline through four seeds."""
    keyframes = [5, 13, 35, 31]
    frames = list(client.interpolate(keyframes, 72, method="cubic", looped=True, psi=0.7))
    strip = sheet(in_rows(_images(frames[::6]), 12))
    return SceneOutput(pictures={"every sixth frame": strip}, results=frames, frames=_images(frames))


def inversion(client: Client) -> SceneOutput:
    """The encoder finds the code of a picture that no training saw; the generator draws that code again, below it."""
    samples = sorted(SAMPLES.glob("*.png"))[:10]
    inversions = [client.invert(sample, return_reconstruction=True) for sample in samples]
    drawn = [found.reconstruction.image for found in inversions if found.reconstruction]
    errors = [found.distortion for found in inversions if found.distortion is not None]
    caption = f"samples and reconstructions; mean squared error {sum(errors) / len(errors):.4f} on [-1, 1]"
    return SceneOutput(pictures={caption: sheet([_opened(samples), drawn])}, results=inversions, has_samples=True)


def transfer(client: Client) -> SceneOutput:
    """Models of one latent space exchange codes: one finds the code, the other, fine-tuned from it, draws it."""
    samples = sorted(SAMPLES.glob("*.png"))[:10]
    drawn = client.generate([photo(sample, model="avatars", psi=0.8) for sample in samples], model="pixels")
    same = [client.generate(range(40, 50), psi=0.7, model=model) for model in ("avatars", "pixels")]
    pictures = {
        "samples, drawn by pixels": sheet([_opened(samples), _images(drawn)]),
        "seeds 40 to 49, drawn by avatars and by pixels": sheet([_images(results) for results in same]),
    }
    return SceneOutput(pictures=pictures, results=[*drawn, *same[0], *same[1]], has_samples=True)


def editing(client: Client) -> SceneOutput:
    """A code is an array: take it, change it, send it back. Here two inverted samples are blended in equal steps."""
    first, last = (client.invert(SAMPLES / name).code for name in ("avatar00.png", "avatar01.png"))
    codes = [first + (last - first) * step / 9 for step in range(10)]
    results = client.generate([w_plus(code) for code in codes], noise=noise("random", seed=1))
    return SceneOutput(pictures={"from one sample to another": sheet([_images(results)])}, results=results)


def refusal(client: Client) -> SceneOutput:
    """A wrong request is refused as a whole, with every wrong field in one answer."""
    try:
        client.generate([seed(-1), seed(7, psi=9, truncation_layers=(3, 99))], quality=90)
    except InvalidFieldError as error:
        return SceneOutput(pictures={}, text="\n".join(f"{field}: {text}" for field, text in error.violations))
    raise AssertionError("the server accepted a wrong request")


SCENES: tuple[Scene, ...] = (seeds, truncation, mixing, interpolation, inversion, transfer, editing, refusal)


def _images(results: Sequence[Result]) -> list[Image]:
    return [result.image for result in results]


def _opened(paths: Sequence[Path]) -> list[Image]:
    return [PIL.Image.open(path) for path in paths]
