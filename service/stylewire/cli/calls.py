"""Many calls of a command at once, so that the server can batch them, and answers in the order of the questions.

Commands run on asyncio because Ctrl-C then cancels their calls on the server.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer

from stylewire import pb
from stylewire.cli.parsing import CODE_SUFFIX
from stylewire.client import AsyncClient
from stylewire.client.inputs import seed, w_plus
from stylewire.client.results import Picture
from stylewire.codes import load_codes
from stylewire.latents import Array
from stylewire.media.provenance import Provenance, combine

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")
_OPEN_CALLS = 16


async def in_order(
    ask: Callable[[_Item], Coroutine[Any, Any, _Answer]], items: Iterable[_Item]
) -> AsyncIterator[tuple[_Item, _Answer]]:
    """Ask for a bounded number of items at once; the answers come in the order of the items.

    Leaving the loop, by an error or Ctrl-C too, cancels what is under way.
    """
    waiting: deque[tuple[_Item, asyncio.Task[_Answer]]] = deque()
    try:
        for item in items:
            waiting.append((item, asyncio.create_task(ask(item))))
            if len(waiting) >= _OPEN_CALLS:
                oldest, task = waiting[0]
                yield oldest, await task
                waiting.popleft()
        while waiting:
            oldest, task = waiting[0]
            yield oldest, await task
            waiting.popleft()
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)


async def find_latents(
    client: AsyncClient, points: Sequence[int | Path], *, model: str, psi: float | None
) -> list[pb.Latent]:
    """Make latents of seeds, files of codes and pictures, which are inverted once.

    Args:
        client: asks the encoder.
        points: as ``parse_points`` reads them.
        model: whose encoder is asked.
        psi: truncation of seeds; a code of a file is taken as it is.
    """

    async def find(point: int | Path) -> pb.Latent:
        if isinstance(point, int):
            return seed(point, psi=psi)
        if point.suffix.lower() == CODE_SUFFIX:
            codes = read_codes(point)
            if len(codes) != 1:
                raise typer.BadParameter(f"{point} holds {len(codes)} codes; one is needed")
            return w_plus(codes[0])
        return w_plus((await client.invert(point, model=model)).code)

    return [latent async for _, latent in in_order(find, points)]


def read_codes(path: Path) -> Array:
    """Read a file of codes, float32[N, L, D].

    Raises:
        OSError: the file cannot be read.
        typer.BadParameter: it holds no codes.
    """
    try:
        return load_codes(path)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def origin_of(pictures: Iterable[Picture | None]) -> Provenance | None:
    """Say what a sheet shows; None stands for a picture that no model made."""
    return combine([picture.provenance if picture else None for picture in pictures])
