"""The one interceptor: request id, metrics, log line, and error -> status. The only place that catches everything."""

import asyncio
import itertools
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from stylewire.errors import (
    InternalError,
    InvalidFieldError,
    OverloadedError,
    StylewireError,
    Violation,
    to_status,
)
from stylewire.server.gate import Gate
from stylewire.server.metrics import Method, MethodMetrics, Metrics

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
_DEADLINE_SLACK_SECONDS = 0.1
"""A client's clock starts first, so its cancellation at the deadline arrives a little before the server's deadline."""
_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_PROCESS_ID = uuid.uuid4().hex[:16]
_numbers = itertools.count(1)
_Handler: TypeAlias = Any
"""A grpc.RpcMethodHandler; its stubs describe synchronous handlers only."""
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


@dataclass(slots=True)
class _Call:
    """One call under way."""

    metrics: MethodMetrics
    request_id: str
    started: float
    model: str = ""
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0
    batch_size: int = 0


class Boundary(grpc.aio.ServerInterceptor):
    """Wraps every method of the server."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._wrapped: dict[str, _Handler] = {}
        self._gate = Gate()

    async def stop(self, seconds: float) -> None:
        """Refuse what comes, and let calls under way end, so long at most."""
        await self._gate.close(seconds)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Wrap the handler of a method in one of the same kind, once."""
        path = handler_call_details.method
        if path in self._wrapped:
            return self._wrapped[path]
        handler = await continuation(handler_call_details)
        if handler is not None:  # else there is no such method, and grpc answers UNIMPLEMENTED
            self._wrapped[path] = handler = self._wrap(handler, path)
        return handler

    def _wrap(self, handler: _Handler, path: str) -> _Handler:
        _, service, name = path.split("/", 2)
        if handler.response_streaming:
            kind = "bidi_stream" if handler.request_streaming else "server_stream"
            return self._streaming(handler, self._metrics.method(Method(kind, service, name)))
        return self._unary(handler, self._metrics.method(Method("unary", service, name)))

    def _unary(self, handler: _Handler, metrics: MethodMetrics) -> _Handler:
        async def answer(content: bytes, context: _Context) -> Any:
            call = _begin(metrics, context)
            try:
                with self._gate.passed(metrics.method):
                    response = await handler.unary_unary(_read(handler, call, content), context)
                _count_reply(call, response)
            except BaseException as err:
                await _fail(call, err, context)
                raise
            _finish(call, _set_code(context))
            return response

        return grpc.unary_unary_rpc_method_handler(answer, response_serializer=handler.response_serializer)

    def _streaming(self, handler: _Handler, metrics: MethodMetrics) -> _Handler:
        stream = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def answer(request: Any, context: _Context) -> None:
            call = _begin(metrics, context)
            try:
                with self._gate.passed(metrics.method):
                    if not handler.request_streaming:
                        request = _read(handler, call, request)
                    messages: Any = stream(request, context)
                    if asyncio.iscoroutine(messages):  # a handler that writes by itself, as that of health does
                        await messages
                    else:
                        # Not yielded: grpc drops a generator whose client has left; its end would never be counted.
                        async with aclosing(messages):
                            async for response in messages:
                                _count_reply(call, response)
                                await _write(context, response)
            except BaseException as err:
                await _fail(call, err, context)
                raise
            _finish(call, _set_code(context))

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                answer, handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_stream_rpc_method_handler(answer, response_serializer=handler.response_serializer)


def _begin(metrics: MethodMetrics, context: _Context) -> _Call:
    call = _Call(metrics, _request_id(context), time.monotonic())
    metrics.started.inc()
    metrics.received.inc()
    context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
    return call


async def _fail(call: _Call, err: BaseException, context: _Context) -> None:
    """Count a call that ended with an exception, and tell the client; returns if nobody has to be told."""
    refusal: StylewireError | None = None
    match err:
        case asyncio.CancelledError():  # the client left, or its deadline passed
            remaining = context.time_remaining()
            expired = remaining is not None and remaining < _DEADLINE_SLACK_SECONDS
            code = grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
        case grpc.aio.AbortError():
            code = _set_code(context)
        case StylewireError():
            refusal, code = err, err.code
        case Exception():
            log.error("request %s of %s failed", call.request_id, call.metrics.method.name, exc_info=err)
            refusal = InternalError(f"internal error; the server's log has it under request id {call.request_id}")
            code = grpc.StatusCode.INTERNAL
        case _:  # the process ends
            code = grpc.StatusCode.UNKNOWN
    _finish(call, code)
    if refusal:  # counted first: whoever has the answer finds it in the metrics
        await _abort(context, refusal, call.request_id)


def _request_id(context: _Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and _SAFE_ID.fullmatch(str(value)):
            return str(value)
    return f"{_PROCESS_ID}{next(_numbers):016x}"


def _count_reply(call: _Call, response: Any) -> None:
    call.metrics.sent.inc()
    if "timing" not in response.DESCRIPTOR.fields_by_name:
        return
    seconds = []
    for phase, histogram in call.metrics.phases.items():
        duration = getattr(response.timing, phase)
        seconds.append(duration.seconds + duration.nanos / 1e9)
        histogram.observe(seconds[-1])
    call.queue_seconds += seconds[0]
    call.inference_seconds += seconds[1]
    call.batch_size = max(call.batch_size, response.batch.size)


def _finish(call: _Call, code: grpc.StatusCode) -> None:
    seconds = time.monotonic() - call.started
    call.metrics.handled(code.name).inc()
    call.metrics.handling.observe(seconds)
    level = logging.INFO if call.metrics.method.service.startswith("stylewire.") else logging.DEBUG
    if not log.isEnabledFor(level):
        return
    log.log(
        level,
        "request_id=%s method=%s model=%s code=%s total_ms=%.1f queue_ms=%.1f inference_ms=%.1f batch=%d",
        call.request_id,
        call.metrics.method.name,
        call.model[:64].encode("unicode_escape").decode() or "-",
        code.name,
        seconds * 1e3,
        call.queue_seconds * 1e3,
        call.inference_seconds * 1e3,
        call.batch_size,
    )


def _read(handler: _Handler, call: _Call, content: bytes) -> Any:
    """Parse a request here and not in grpc, which would answer UNKNOWN, count nothing and log a traceback."""
    try:
        request = handler.request_deserializer(content)
    except DecodeError as err:
        raise InvalidFieldError.of([Violation("", f"the bytes are no request of {call.metrics.method.name}")]) from err
    call.model = getattr(request, "model", "")
    return request


async def _write(context: _Context, response: Any) -> None:
    try:
        await context.write(response)
    except grpc.aio.InternalError as err:  # what grpc raises when the client leaves during a write
        raise asyncio.CancelledError from err


async def _abort(context: _Context, err: StylewireError, request_id: str) -> None:
    err.request_id = request_id
    status = rpc_status.to_status(to_status(err))
    metadata = [*status.trailing_metadata, (REQUEST_ID, request_id)]
    if isinstance(err, OverloadedError) and err.retry_after_seconds is not None:
        # gRFC A6: a client with a retry policy waits exactly this long.
        metadata.append(("grpc-retry-pushback-ms", str(round(err.retry_after_seconds * 1e3))))
    try:
        await context.abort(status.code, status.details, tuple(metadata))
    except grpc.aio.InternalError as failure:  # the client has left: nobody is told
        raise asyncio.CancelledError from failure


def _set_code(context: _Context) -> grpc.StatusCode:
    """Read the status that a handler set by itself; grpc gives a number, an enum, or nothing."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return next((each for each in grpc.StatusCode if each.value[0] == code), grpc.StatusCode.OK)
