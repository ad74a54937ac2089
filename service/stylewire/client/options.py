"""Keyword arguments of the clients' methods, and the literals that each accepts.

Type checkers read them from ``**options: Unpack[...]``; ``forwards_to`` shows them to ``help`` and ``inspect``.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, get_args, is_typeddict

from stylewire import pb

FileFormat: TypeAlias = Literal["png", "jpeg", "webp"]
Format: TypeAlias = FileFormat | Literal["pixels", "tensor"]
Method: TypeAlias = Literal["lerp", "slerp", "cubic"]
Easing: TypeAlias = Literal["linear", "ease_in", "ease_out", "ease_in_out"]
Start: TypeAlias = Literal["encoder", "mean"]
Container: TypeAlias = Literal["mp4", "webm"]
NoiseMode: TypeAlias = Literal["const", "none", "random"]
Alignment: TypeAlias = Literal["face", "anime"]
OnProgress: TypeAlias = Callable[[int, int | None], object]
"""Called with the number of pictures delivered and of all, None if that is not known."""
_Function = TypeVar("_Function", bound=Callable[..., object])
_CATCH_ALL = re.compile(r"^ {4}\*\*\w+: .*$", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


class OutputOptions(TypedDict, total=False):
    """The form of returned pictures.

    Attributes:
        format: ``png`` (the default), ``jpeg``, ``webp``, ``pixels`` (uint8 without a file around) or ``tensor`` (the
            network's own float32).
        quality: for ``jpeg`` and ``webp``, in [1, 100]; 90 by default.
        resolution_px: width and height, at most the model's own, which is the default.
    """

    format: Format
    quality: int | None
    resolution_px: int | None


class PictureOptions(OutputOptions, total=False):
    """What every call that makes pictures takes.

    Attributes:
        model: the model's name; the server's default model by default.
        psi: truncation of the latents that have none of their own; none by default.
        noise: ``const`` (the default), ``none``, ``random``, or what ``stylewire.noise`` returns.
    """

    model: str
    psi: float | None
    noise: NoiseMode | pb.Noise


class GenerateOptions(PictureOptions, total=False):
    """What ``Client.generate`` takes besides latents.

    Attributes:
        return_codes: also ask for the w+ codes.
    """

    return_codes: bool


class ManyOptions(GenerateOptions, total=False):
    """What ``Client.generate_many`` takes besides latents.

    Attributes:
        window: calls in flight at once; 4 by default.
        batch: latents of a call, at most what the server takes. By default 1 at first, then what the server answers in
            0.1 to 1 s, at most 16, and at most 16 MB of pictures.
        patience_seconds: how long it may go without an answer while no server answers, or all are full; 60 by default.
        on_progress: called with the numbers of pictures delivered and of all, None where that is not known.
    """

    window: int
    batch: int | None
    patience_seconds: float
    on_progress: OnProgress | None


class MixOptions(PictureOptions, total=False):
    """What ``Client.mix_styles`` takes besides content and styles.

    Attributes:
        return_code: also ask for the mixed w+ code.
    """

    return_code: bool


class InterpolateOptions(PictureOptions, total=False):
    """What ``Client.interpolate`` takes besides keyframes and their number.

    Attributes:
        method: ``lerp`` in w+ (the default), ``slerp`` in z, or ``cubic``.
        easing: how time runs between keyframes; ``linear`` by default.
        looped: return to the first keyframe, which is not repeated at the end.
        return_codes: also ask for each frame's w+ code.
    """

    method: Method
    easing: Easing
    looped: bool
    return_codes: bool


class InvertOptions(OutputOptions, total=False):
    """What ``Client.invert`` takes besides the picture.

    Attributes:
        model: the model whose encoder is used; the server's default model by default.
        encoder: which encoder; by default the model's only one, or the one named ``encoder``.
        landmarks: 68 points (x, y) of a face in pixels of the picture, iBUG order, or 5: see ``pb.Landmarks``.
        align: ``face`` or True crops the face of a person as the FFHQ data set does, by ``landmarks`` or where the
            server finds one; ``anime`` crops that of a drawing.
        return_reconstruction: also ask for the generator's picture of the code, and its distortion.
        refine_steps: steps that improve the encoder's answer on the server, which needs PyTorch for it; 0 by default.
    """

    model: str
    encoder: str
    landmarks: Sequence[tuple[float, float]] | None
    align: bool | Alignment
    return_reconstruction: bool
    refine_steps: int


class ProjectOptions(OutputOptions, total=False):
    """What ``Client.project`` takes besides the picture.

    Attributes:
        steps: of the optimization; 100 by default.
        start: ``encoder`` (its answer; the default where there is one) or ``mean`` (the mean code).
        optimize_noise: also optimize the noise maps, which then belong to the code.
        seed: of what is random; 0 by default.
        picture_interval: every so many steps the progress has a picture; by default never.
        model: the model's name; the server's default model by default.
        encoder: which encoder; by default the model's only one, or the one named ``encoder``.
        landmarks: 5 or 68 points (x, y) of a face in pixels of the picture.
        align: crop the face as the FFHQ data set does; needs ``landmarks``.
    """

    steps: int | None
    start: Start | None
    optimize_noise: bool
    seed: int | None
    picture_interval: int
    model: str
    encoder: str
    landmarks: Sequence[tuple[float, float]] | None
    align: bool


class PathOptions(TypedDict, total=False):
    """What a video shows, besides keyframes and the number of frames.

    Attributes:
        model: the model's name; the server's default model by default.
        psi: truncation of the latents that have none of their own; none by default.
        noise: ``const`` (the default), ``none``, ``random``, or what ``stylewire.noise`` returns.
        method: ``lerp`` in w+ (the default), ``slerp`` in z, or ``cubic``.
        easing: how time runs between keyframes; ``linear`` by default.
        looped: return to the first keyframe, so that the video can be repeated without a jump.
        resolution_px: width and height, even, at least 16 and at most the model's own, which is the default.
    """

    model: str
    psi: float | None
    noise: NoiseMode | pb.Noise
    method: Method
    easing: Easing
    looped: bool
    resolution_px: int | None


class VideoOptions(PathOptions, total=False):
    """What ``Client.interpolate_video`` takes besides keyframes and their number.

    Attributes:
        container: ``mp4`` (H.264, the default) or ``webm`` (VP9).
        frame_rate: frames a second, in [1, 120]; 30 by default.
        quality: in [1, 100]; 75 by default.
        bits_per_second: on average, instead of ``quality``.
    """

    container: Container
    frame_rate: float | None
    quality: int | None
    bits_per_second: int | None


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices.

    Raises:
        ValueError: names the argument and its choices.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")


def forwards_to(target: Callable[..., object]) -> Callable[[_Function], _Function]:
    """List what a function takes as ``**options: Unpack[...]`` in its signature and its help.

    A decorator; it changes what ``inspect.signature`` and ``help`` show, not what a call does.

    Args:
        target: where the function passes its options; the defaults are those of its parameters.
    """
    taken = inspect.signature(target).parameters

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        *others, catch_all = signature.parameters.values()
        [options] = get_args(catch_all.annotation)
        listed = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=taken[name].default, annotation=kind)
            for name, kind in options.__annotations__.items()
        ]
        shown: Any = function
        shown.__signature__ = signature.replace(parameters=[*others, *listed])
        shown.__doc__ = _with_descriptions(inspect.getdoc(function) or "", _descriptions(options))
        return function

    return decorate


def _with_descriptions(text: str, descriptions: dict[str, str]) -> str:
    """Put descriptions in the place of ``**options``, or below a docstring that does not mention it."""
    lines = "\n".join(f"    {name}: {description}" for name, description in descriptions.items())
    if not _CATCH_ALL.search(text):
        text += "\n\nArgs:\n    **options: all of them."
    return _CATCH_ALL.sub(lambda _: lines, text)


def _descriptions(options: Any) -> dict[str, str]:
    """Collect the descriptions of each option from a class of options and those that it extends."""
    # A TypedDict forgets its bases before Python 3.12: here they are the classes that have a part of its keys.
    keys = options.__annotations__.items()
    bases = [kind for kind in globals().values() if is_typeddict(kind) and kind.__annotations__.items() <= keys]
    found: dict[str, str] = {}
    for kind in sorted(bases, key=lambda kind: len(kind.__annotations__)):
        found.update(_ATTRIBUTE.findall((inspect.getdoc(kind) or "").partition("Attributes:\n")[2]))
    return {name: found[name] for name, _ in keys if name in found}  # none of them under python -OO
