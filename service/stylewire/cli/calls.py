"""Concurrent calls of a command, so that the server can batch them; results in the order of the inputs.

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
_Result = TypeVar("_Result")
_CALLS_IN_FLIGHT = 16


async def in_order(
    call: Callable[[_Item], Coroutine[Any, Any, _Result]], items: Iterable[_Item]
) -> AsyncIterator[tuple[_Item, _Result]]:
    """Yield each item with the result of its call; a bounded number of calls are in flight.

    Leaving the loop, by an error or Ctrl-C too, cancels the calls in flight.
    """
    waiting: deque[tuple[_Item, asyncio.Task[_Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, asyncio.create_task(call(item))))
            if len(waiting) >= _CALLS_IN_FLIGHT:
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
    """Make latents of seeds, files of codes, and pictures, each of which is inverted once.

    Args:
        client: inverts the pictures.
        points: as ``parse_points`` reads them.
        model: whose encoder inverts them.
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


def provenance_of(pictures: Iterable[Picture | None]) -> Provenance | None:
    """Combine the provenance of the pictures of a sheet; None stands for a picture that no model made."""
    return combine([picture.provenance if picture else None for picture in pictures])
