"""The one interceptor: request id, metrics, log line, and error -> status. The only place that catches everything."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
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
from stylewire.server.metrics import PHASES, Method, Metrics

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
_DEADLINE_SLACK_SECONDS = 0.1
"""A client's clock starts first, so its cancellation at the deadline arrives a little before the server's deadline."""
_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_Handler: TypeAlias = Any
"""A grpc.RpcMethodHandler; its stubs describe synchronous handlers only."""
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


@dataclass(slots=True)
class _Call:
    """One call under way."""

    method: Method
    request_id: str
    model: str = ""
    code: grpc.StatusCode = grpc.StatusCode.OK
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0
    batch_size: int = 0


class Boundary(grpc.aio.ServerInterceptor):
    """Wraps every method of the server."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Wrap the handler of one call in one of the same kind."""
        handler = await continuation(handler_call_details)
        if handler is None:  # no such method: grpc answers UNIMPLEMENTED
            return handler
        _, service, name = handler_call_details.method.split("/", 2)
        metadata = dict(handler_call_details.invocation_metadata or ())
        given = str(metadata.get(REQUEST_ID, ""))
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        if handler.response_streaming:
            kind = "bidi_stream" if handler.request_streaming else "server_stream"
            return self._streaming(handler, _Call(Method(kind, service, name), request_id))
        return self._unary(handler, _Call(Method("unary", service, name), request_id))

    def _unary(self, handler: _Handler, call: _Call) -> _Handler:
        async def answer(content: bytes, context: _Context) -> Any:
            async with self._account(call, context):
                response = await handler.unary_unary(_read(handler, call, content), context)
                self._count_reply(call, response)
                return response

        return grpc.unary_unary_rpc_method_handler(answer, response_serializer=handler.response_serializer)

    def _streaming(self, handler: _Handler, call: _Call) -> _Handler:
        stream = handler.stream_stream if handler.request_streaming else handler.unary_stream

        async def answer(request: Any, context: _Context) -> None:
            async with self._account(call, context):
                if not handler.request_streaming:
                    request = _read(handler, call, request)
                messages: Any = stream(request, context)
                if asyncio.iscoroutine(messages):  # a handler that writes by itself, as that of health does
                    await messages
                    return
                # Not yielded: grpc drops a generator whose client has left, and its end would never be counted.
                async with aclosing(messages):
                    async for response in messages:
                        self._count_reply(call, response)
                        await _write(context, response)

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                answer, handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_stream_rpc_method_handler(answer, response_serializer=handler.response_serializer)

    @asynccontextmanager
    async def _account(self, call: _Call, context: _Context) -> AsyncIterator[None]:
        started = time.monotonic()
        self._metrics.started.labels(*call.method).inc()
        self._metrics.received.labels(*call.method).inc()
        refusal: StylewireError | None = None
        context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        try:
            yield
            call.code = _set_code(context)
        except asyncio.CancelledError:  # the client left, or its deadline passed
            remaining = context.time_remaining()
            expired = remaining is not None and remaining < _DEADLINE_SLACK_SECONDS
            call.code = grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.AbortError:
            call.code = _set_code(context)
            raise
        except StylewireError as err:
            refusal, call.code = err, err.code
        except Exception:
            call.code = grpc.StatusCode.INTERNAL
            log.exception("request %s of %s failed", call.request_id, call.method.name)
            refusal = InternalError(f"internal error; the server's log has it under request id {call.request_id}")
        finally:
            self._finish(call, time.monotonic() - started)
        if refusal:  # counted first: whoever has the answer finds it in the metrics
            await _abort(context, refusal, call.request_id)

    def _count_reply(self, call: _Call, response: Any) -> None:
        self._metrics.sent.labels(*call.method).inc()
        if "timing" not in response.DESCRIPTOR.fields_by_name:
            return
        for phase in PHASES:
            duration = getattr(response.timing, phase)
            self._metrics.phase.labels(phase).observe(duration.seconds + duration.nanos / 1e9)
        call.queue_seconds += response.timing.queue.seconds + response.timing.queue.nanos / 1e9
        call.inference_seconds += response.timing.inference.seconds + response.timing.inference.nanos / 1e9
        call.batch_size = max(call.batch_size, response.batch.size)

    def _finish(self, call: _Call, seconds: float) -> None:
        self._metrics.handled.labels(*call.method, call.code.name).inc()
        self._metrics.handling.labels(*call.method).observe(seconds)
        log.log(
            logging.INFO if call.method.service.startswith("stylewire.") else logging.DEBUG,
            "request_id=%s method=%s model=%s code=%s total_ms=%.1f queue_ms=%.1f inference_ms=%.1f batch=%d",
            call.request_id,
            call.method.name,
            call.model[:64].encode("unicode_escape").decode() or "-",
            call.code.name,
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
        raise InvalidFieldError.of([Violation("", f"the bytes are no request of {call.method.name}")]) from err
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
    await context.abort(status.code, status.details, tuple(metadata))


def _set_code(context: _Context) -> grpc.StatusCode:
    """Read the status that a handler set by itself; grpc gives a number, an enum, or nothing."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return next((each for each in grpc.StatusCode if each.value[0] == code), grpc.StatusCode.OK)
