"""``generate_many``: which calls are under way, what comes next, when a lost one is made again."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, Unpack

import grpc

from stylewire import pb
from stylewire.client import results
from stylewire.client.connection import typed_errors
from stylewire.client.inputs import LatentLike
from stylewire.client.options import GenerateOptions, OnProgress, forwards_to
from stylewire.client.requests import generate_request
from stylewire.client.results import Result
from stylewire.client.retries import spread
from stylewire.errors import OverloadedError, RetryableError
from stylewire.status import from_rpc_error

_MOST_LATENTS = 16
_CALL_BYTES = 16 * 2**20
"""Of the pictures of one call, where its size is ours to choose."""
_QUICK_SECONDS, _SLOW_SECONDS = 0.1, 1.0
"""A call that the server answers faster is made larger, one that takes longer is made smaller."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0


class Call(Protocol):
    """A call under way, of either client."""

    def cancel(self) -> object:
        """Tell the server that nobody waits."""


class _Future(Call, Protocol):
    def result(self) -> pb.GenerateResponse: ...


class _Awaitable(Call, Awaitable[pb.GenerateResponse], Protocol): ...


_Call = TypeVar("_Call", bound=Call)
_AnyFuture = TypeVar("_AnyFuture", bound=_Future)
_AnyAwaitable = TypeVar("_AnyAwaitable", bound=_Awaitable)


@dataclass(slots=True)
class _Part(Generic[_Call]):
    """Some latents and the call that asks for their pictures."""

    request: pb.GenerateRequest
    call: _Call
    failures: int = 0


class Parts(Generic[_Call]):
    """Cuts latents into calls, a bounded number of them under way, answered in the order of the latents.

    The oldest call is waited for by ``pictures``; ``deliver``, or ``pause`` and ``ask_again``, say what became of it.

    Args:
        send: begins a call.
        latents: read ahead by no more than the calls under way take.
        window: see ``ManyOptions``, as for the rest.
        batch: see ``ManyOptions``.
        patience_seconds: see ``ManyOptions``.
        on_progress: see ``ManyOptions``.
        **options: see ``GenerateOptions``.
    """

    @forwards_to(generate_request)
    def __init__(  # noqa: PLR0913 - keyword-only but two
        self,
        send: Callable[[pb.GenerateRequest], _Call],
        latents: Iterable[LatentLike],
        *,
        window: int = 4,
        batch: int | None = None,
        patience_seconds: float = 60.0,
        on_progress: OnProgress | None = None,
        **options: Unpack[GenerateOptions],
    ) -> None:
        for name, number in (("window", window), ("batch", 1 if batch is None else batch)):
            if number < 1:
                raise ValueError(f"{name} is {number}; give 1 or more")
        self._send, self._latents, self._options = send, iter(latents), options
        self._count = len(latents) if isinstance(latents, Sized) else None
        self._most_parts = self._wanted_parts = window
        self._size, self._fixed = batch or 1, batch is not None
        self._patience, self._on_progress = patience_seconds, on_progress
        self._parts: deque[_Part[_Call]] = deque()
        self._asked = self._done = 0
        self._answered_at = time.monotonic()

    def head(self) -> _Call | None:
        """Begin as many calls as may be under way, and give the oldest; None when all is delivered."""
        if not self._asked:
            self._answered_at = time.monotonic()
        while len(self._parts) < self._wanted_parts and (chosen := list(itertools.islice(self._latents, self._size))):
            request = generate_request(chosen, **self._options)
            if request.noise.mode == pb.Noise.MODE_RANDOM:
                request.noise.seed += self._asked  # picture k of all has the noise of picture k of one call
            self._asked += len(chosen)
            self._parts.append(_Part(request, self._send(request)))
        return self._parts[0].call if self._parts else None

    def deliver(self, response: pb.GenerateResponse) -> Iterator[Result]:
        """Give the pictures of the oldest call, which was answered."""
        request = self._parts.popleft().request
        self._answered_at = time.monotonic()
        self._wanted_parts = min(self._wanted_parts + 1, self._most_parts)
        self._adapt(response)
        for result in results.read_generate(response, request):
            self._done += 1
            if self._on_progress:
                self._on_progress(self._done, self._count)
            yield result
        self._answered_at = time.monotonic()  # the caller's own time is not the server's

    def pause(self, error: grpc.RpcError) -> float:
        """Say how long to wait before the oldest call, which failed, is made again; raises the error if it is not."""
        typed, part = from_rpc_error(error), self._parts[0]
        if not isinstance(typed, RetryableError):
            raise error
        if isinstance(typed, OverloadedError):
            self._wanted_parts = max(1, self._wanted_parts // 2)
        pause = typed.retry_after_seconds
        if pause is None:
            pause = min(_FIRST_PAUSE_SECONDS * 2 ** min(part.failures, 10), _LONGEST_PAUSE_SECONDS)
        part.failures += 1
        if time.monotonic() + pause - self._answered_at > self._patience:
            raise error
        return spread(pause)

    def ask_again(self) -> None:
        """Make the oldest call once more."""
        part = self._parts[0]
        part.call = self._send(part.request)

    def cancel(self) -> None:
        """Cancel what is under way."""
        for part in self._parts:
            part.call.cancel()

    def _adapt(self, response: pb.GenerateResponse) -> None:
        """Choose the size of the next calls by an answer. By the server's time: the caller's may be anything."""
        if self._fixed:
            return
        count, spent = len(response.images), sum(results.read_timing(response.timing))
        # From the size of this call, not of the last one sent: the answers that come meanwhile would all change it.
        wanted = count * 2 if spent < _QUICK_SECONDS else count // 2 if spent > _SLOW_SECONDS else count
        fitting = _CALL_BYTES * count // max(1, response.ByteSize())
        self._size = max(1, min(wanted, fitting, _MOST_LATENTS))


def pictures(parts: Parts[_AnyFuture], address: str) -> Iterator[Result]:
    """Wait for the calls; closing the iterator cancels those under way."""
    with typed_errors(address):
        try:
            while (call := parts.head()) is not None:
                try:
                    response = call.result()
                except grpc.RpcError as error:
                    time.sleep(parts.pause(error))
                    parts.ask_again()
                else:
                    yield from parts.deliver(response)
        finally:
            parts.cancel()


async def async_pictures(parts: Parts[_AnyAwaitable], address: str) -> AsyncIterator[Result]:
    """``pictures`` for asyncio."""
    with typed_errors(address):
        try:
            while (call := parts.head()) is not None:
                try:
                    response = await call
                except grpc.RpcError as error:
                    await asyncio.sleep(parts.pause(error))
                    parts.ask_again()
                else:
                    for result in parts.deliver(response):
                        yield result
        finally:
            parts.cancel()
