"""The SDK: ``Client`` and ``AsyncClient``. Imported lazily: the options alone need no connection."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stylewire.client.aio import AsyncClient
    from stylewire.client.sync import Client

__all__ = ["AsyncClient", "Client"]
_MODULES = {"AsyncClient": "aio", "Client": "sync"}


def __getattr__(name: str) -> object:
    """Import a client when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
