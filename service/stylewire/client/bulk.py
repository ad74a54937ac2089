"""``generate_many``: which calls are in flight, what is sent next, when a failed one is retried."""

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

_MAX_LATENTS = 16
_MAX_RESPONSE_BYTES = 16 * 2**20
"""Of the pictures of one call, where its size is ours to choose."""
_QUICK_SECONDS, _SLOW_SECONDS = 0.1, 1.0
"""A call that the server answers faster is made larger, one that takes longer is made smaller."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0


class Call(Protocol):
    """A call in flight, of either client."""

    def cancel(self) -> object:
        """Cancel the call on the server."""


class _Future(Call, Protocol):
    def result(self) -> pb.GenerateResponse: ...


class _Awaitable(Call, Awaitable[pb.GenerateResponse], Protocol): ...


_Call = TypeVar("_Call", bound=Call)
_AnyFuture = TypeVar("_AnyFuture", bound=_Future)
_AnyAwaitable = TypeVar("_AnyAwaitable", bound=_Awaitable)


@dataclass(slots=True)
class _PendingCall(Generic[_Call]):
    """A request whose pictures are not delivered yet, and its latest call."""

    request: pb.GenerateRequest
    call: _Call
    failures: int = 0


class CallWindow(Generic[_Call]):
    """A sliding window over many latents: a bounded number of calls in flight, delivered in the order of the latents.

    ``stream_results`` waits for the oldest call, then calls ``deliver``, or ``retry_pause`` and ``retry``.

    Args:
        send: starts a call.
        latents: read ahead by no more than the calls in flight take.
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
                raise ValueError(f"{name} is {number}; it must be 1 or more")
        self._send, self._latents, self._options = send, iter(latents), options
        self._count = len(latents) if isinstance(latents, Sized) else None
        self._max_calls = self._allowed_calls = window
        self._size, self._fixed = batch or 1, batch is not None
        self._patience, self._on_progress = patience_seconds, on_progress
        self._pending: deque[_PendingCall[_Call]] = deque()
        self._sent_count = self._delivered_count = 0
        self._answered_at = time.monotonic()

    def oldest(self) -> _Call | None:
        """Start as many calls as the window allows, and return the oldest; None when all is delivered."""
        if not self._sent_count:
            self._answered_at = time.monotonic()
        while len(self._pending) < self._allowed_calls and (
            chosen := list(itertools.islice(self._latents, self._size))
        ):
            request = generate_request(chosen, **self._options)
            if request.noise.mode == pb.Noise.MODE_RANDOM:
                request.noise.seed += self._sent_count  # picture k of all has the noise of picture k of one call
            self._sent_count += len(chosen)
            self._pending.append(_PendingCall(request, self._send(request)))
        return self._pending[0].call if self._pending else None

    def deliver(self, response: pb.GenerateResponse) -> Iterator[Result]:
        """Yield the pictures of the oldest call from its response."""
        request = self._pending.popleft().request
        self._answered_at = time.monotonic()
        self._allowed_calls = min(self._allowed_calls + 1, self._max_calls)
        self._adapt(response)
        for result in results.read_generate(response, request):
            self._delivered_count += 1
            if self._on_progress:
                self._on_progress(self._delivered_count, self._count)
            yield result
        self._answered_at = time.monotonic()  # the caller's own time is not the server's

    def retry_pause(self, error: grpc.RpcError) -> float:
        """Return the seconds to wait before the oldest call, which failed, is retried.

        Raises:
            grpc.RpcError: the error itself, if it is not retryable or patience has run out.
        """
        typed, oldest = from_rpc_error(error), self._pending[0]
        if not isinstance(typed, RetryableError):
            raise error
        if isinstance(typed, OverloadedError):
            self._allowed_calls = max(1, self._allowed_calls // 2)
        pause = typed.retry_after_seconds
        if pause is None:
            pause = min(_FIRST_PAUSE_SECONDS * 2 ** min(oldest.failures, 10), _LONGEST_PAUSE_SECONDS)
        oldest.failures += 1
        if time.monotonic() + pause - self._answered_at > self._patience:
            raise error
        return spread(pause)

    def retry(self) -> None:
        """Send the oldest call once more."""
        oldest = self._pending[0]
        oldest.call = self._send(oldest.request)

    def cancel(self) -> None:
        """Cancel the calls in flight."""
        for pending in self._pending:
            pending.call.cancel()

    def _adapt(self, response: pb.GenerateResponse) -> None:
        """Set the size of the next calls by the server's own time for this one: the caller's may be anything."""
        if self._fixed:
            return
        count, spent = len(response.images), sum(results.read_timing(response.timing))
        # From the size of this call, not of the last one sent: the answers that come meanwhile would all change it.
        wanted = count * 2 if spent < _QUICK_SECONDS else count // 2 if spent > _SLOW_SECONDS else count
        fitting = _MAX_RESPONSE_BYTES * count // max(1, response.ByteSize())
        self._size = max(1, min(wanted, fitting, _MAX_LATENTS))


def stream_results(window: CallWindow[_AnyFuture], address: str) -> Iterator[Result]:
    """Yield the pictures of all calls; closing the iterator cancels those in flight."""
    with typed_errors(address):
        try:
            while (call := window.oldest()) is not None:
                try:
                    response = call.result()
                except grpc.RpcError as error:
                    time.sleep(window.retry_pause(error))
                    window.retry()
                else:
                    yield from window.deliver(response)
        finally:
            window.cancel()


async def stream_results_async(window: CallWindow[_AnyAwaitable], address: str) -> AsyncIterator[Result]:
    """Yield what ``stream_results`` does, for asyncio."""
    with typed_errors(address):
        try:
            while (call := window.oldest()) is not None:
                try:
                    response = await call
                except grpc.RpcError as error:
                    await asyncio.sleep(window.retry_pause(error))
                    window.retry()
                else:
                    for result in window.deliver(response):
                        yield result
        finally:
            window.cancel()
