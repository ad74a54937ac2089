"""Serve StyleGAN2-family generators and pSp-family encoders over gRPC; this is the client's side.

>>> from stylewire import Client, layers, photo, seed, style
>>> with Client("localhost:8500") as client:  # doctest: +SKIP
...     client.generate([7, 8], psi=0.7)[0].save("seed7.png")
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stylewire.client import AsyncClient, Client
    from stylewire.client.inputs import layers, noise, photo, resolutions, seed, style, w, w_plus, z
    from stylewire.client.projections import Projection, ProjectionProgress
    from stylewire.client.results import Face, Frame, Inversion, Picture, Result, Timing
    from stylewire.client.videos import AsyncVideo, Video
    from stylewire.codes import load_code, load_codes, save_code
    from stylewire.errors import (
        BackendUnavailableError,
        DeadlineError,
        DrainingError,
        InternalError,
        InvalidFieldError,
        ModelLoadError,
        ModelNotFoundError,
        ModelNotReadyError,
        NoFaceError,
        OverloadedError,
        PermissionDeniedError,
        RateLimitedError,
        RetryableError,
        StylewireError,
        UnauthenticatedError,
        UnreachableError,
        UnsupportedError,
        Violation,
    )
    from stylewire.security import Security

__all__ = [
    "AsyncClient",
    "AsyncVideo",
    "BackendUnavailableError",
    "Client",
    "DeadlineError",
    "DrainingError",
    "Face",
    "Frame",
    "InternalError",
    "InvalidFieldError",
    "Inversion",
    "ModelLoadError",
    "ModelNotFoundError",
    "ModelNotReadyError",
    "NoFaceError",
    "OverloadedError",
    "PermissionDeniedError",
    "Picture",
    "Projection",
    "ProjectionProgress",
    "RateLimitedError",
    "Result",
    "RetryableError",
    "Security",
    "StylewireError",
    "Timing",
    "UnauthenticatedError",
    "UnreachableError",
    "UnsupportedError",
    "Video",
    "Violation",
    "layers",
    "load_code",
    "load_codes",
    "noise",
    "photo",
    "resolutions",
    "save_code",
    "seed",
    "style",
    "w",
    "w_plus",
    "z",
]

_HOMES = (
    "client.aio",
    "client.sync",
    "client.inputs",
    "client.projections",
    "client.results",
    "client.videos",
    "codes",
    "errors",
    "security",
)


def __getattr__(name: str) -> object:
    """Import the public names when one is first asked for: a health probe asks for none, and numpy starts slowly."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for home in _HOMES:
        found = vars(importlib.import_module(f"{__name__}.{home}"))
        globals().update((each, found[each]) for each in __all__ if each in found)
    return globals()[name]


def __dir__() -> list[str]:
    """List the public names before they are imported, for completion."""
    return sorted({*globals(), *__all__})
