"""The interceptor: access, the record of a call, metrics, log line, error -> status. Only here everything is caught."""

import asyncio
import itertools
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from stylewire.errors import (
    InternalError,
    InvalidFieldError,
    StylewireError,
    Violation,
)
from stylewire.server import context as request_context
from stylewire.server.context import RequestContext
from stylewire.server.front.auth.access import OPEN_SERVICES, Access
from stylewire.server.front.transport.call import CountingContext, count_messages, log_line
from stylewire.server.front.transport.drain import Drain, is_work
from stylewire.server.front.transport.wire_limits import WireLimit, max_fields
from stylewire.server.telemetry.metrics import REJECTIONS, Method, MethodMetrics, Metrics
from stylewire.server.tracing import Tracer
from stylewire.status import pushback, to_status

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
_DEADLINE_SLACK_SECONDS = 0.1
"""A client's clock starts first, so its cancellation at the deadline arrives a little before the server's deadline."""
_MODEL_FIELDS = ("model", "name", "model_name")
"""What requests call the model that they are for."""
_SAFE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_CODES: dict[Any, grpc.StatusCode] = {form: code for code in grpc.StatusCode for form in (code, code.value[0])}
"""A status that a handler set, as grpc returns it -> its code."""
_PROCESS_ID = uuid.uuid4().hex[:16]
_numbers = itertools.count(1)
_Handler: TypeAlias = Any
"""A grpc.RpcMethodHandler; its stubs describe synchronous handlers only."""
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class Interceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of the server.

    Args:
        metrics: where calls are counted.
        access: who may call.
        tracer: traces calls; None for none.
        max_fields: of one request; see ``WireLimit``.

    Attributes:
        drain: counts the calls in flight.
    """

    def __init__(
        self, metrics: Metrics, access: Access, tracer: Tracer | None = None, *, max_fields: int = max_fields()
    ) -> None:
        self._metrics, self._access, self._tracer, self._max_fields = metrics, access, tracer, max_fields
        self._wrapped: dict[str, _Handler] = {}
        self.drain = Drain()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Wrap the handler of a method in one of the same kind, once."""
        path = handler_call_details.method
        handler = self._wrapped.get(path)
        if handler is None:
            inner = await continuation(handler_call_details)
            if inner is None:  # there is no such method; grpc answers UNIMPLEMENTED
                return None
            self._wrapped[path] = handler = self._wrap(inner, _method(inner, path))
        if _service(path) in OPEN_SERVICES:
            return handler
        try:
            self._access.check(handler_call_details.invocation_metadata or ())
        except StylewireError as err:
            return self._refusing(err, self._endpoint(_method(handler, path)))
        return handler

    def _wrap(self, handler: _Handler, method: Method) -> _Handler:
        endpoint = self._endpoint(method)
        return self._streaming(handler, endpoint) if handler.response_streaming else self._unary(handler, endpoint)

    def _endpoint(self, method: Method) -> "_Endpoint":
        work = is_work(method)
        level = logging.INFO if work else logging.DEBUG
        return _Endpoint(method, self._metrics.method(method), work, method.service in OPEN_SERVICES, level)

    def _refusing(self, err: StylewireError, endpoint: "_Endpoint") -> _Handler:
        """Answer without reading what the client sends: as a stream, since grpc reads the request of a unary call."""

        async def answer(requests: object, context: _Context) -> None:  # noqa: ARG001
            await self._fail(endpoint, self._begin(endpoint, context), err, context)

        return grpc.stream_stream_rpc_method_handler(answer)

    def _unary(self, handler: _Handler, endpoint: "_Endpoint") -> _Handler:
        parse = self._parser(handler, endpoint)

        async def answer(content: bytes, context: _Context) -> Any:
            call = self._begin(endpoint, context)
            try:
                self._enter(endpoint, call, context)
                response = await handler.unary_unary(parse(call, content), context)
                endpoint.metrics.sent.inc()
                if call.timings.batch_size:  # a graph ran: not for a list of models
                    call.reply(call.timings)
            except BaseException as err:
                await self._fail(endpoint, call, err, context)
                raise
            self._finish(endpoint, call, _set_code(context))
            return response

        return grpc.unary_unary_rpc_method_handler(answer, response_serializer=handler.response_serializer)

    def _streaming(self, handler: _Handler, endpoint: "_Endpoint") -> _Handler:
        stream = handler.stream_stream if handler.request_streaming else handler.unary_stream
        metrics, parse = endpoint.metrics, self._parser(handler, endpoint)

        async def answer(request: Any, context: _Context) -> None:
            call = self._begin(endpoint, context)
            try:
                self._enter(endpoint, call, context)
                if handler.request_streaming:
                    request = count_messages(request, metrics.received)
                else:
                    request = parse(call, request)
                messages: Any = stream(request, CountingContext(context, metrics.sent))
                if asyncio.iscoroutine(messages):  # a handler that writes by itself, as that of health does
                    await messages
                else:
                    # Not yielded: grpc drops a generator whose client has left; its end would never be counted.
                    async with aclosing(messages):
                        async for response in messages:
                            metrics.sent.inc()
                            await _write(context, response)
            except BaseException as err:
                await self._fail(endpoint, call, err, context)
                raise
            self._finish(endpoint, call, _set_code(context))

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                answer, handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_stream_rpc_method_handler(answer, response_serializer=handler.response_serializer)

    def _parser(self, handler: _Handler, endpoint: "_Endpoint") -> Callable[[RequestContext, bytes], Any]:
        """Make what parses requests of a method: not grpc, which would answer UNKNOWN and log a traceback."""
        limit = WireLimit(handler.request_deserializer.__self__.DESCRIPTOR, self._max_fields)

        def parse(call: RequestContext, content: bytes) -> Any:
            endpoint.metrics.received.inc()
            limit.check(content)
            try:
                request = handler.request_deserializer(content)
            except DecodeError as err:
                name = endpoint.method.name
                raise InvalidFieldError.of([Violation("", f"the bytes are no request of {name}")]) from err
            call.model = next(filter(None, (getattr(request, name, "") for name in _MODEL_FIELDS)), "")
            return request

        return parse

    def _begin(self, endpoint: "_Endpoint", context: _Context) -> RequestContext:
        call = RequestContext(request_id=_request_id(context), peer=context.peer(), observe=endpoint.metrics.reply)
        call.limit(context.time_remaining())
        request_context.enter(call)
        endpoint.metrics.started.inc()
        context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        return call

    def _enter(self, endpoint: "_Endpoint", call: RequestContext, context: _Context) -> None:
        """Let a call in that has sent its request."""
        method, drain = endpoint.method, self.drain
        if endpoint.work and drain.draining:
            raise drain.refusal()
        if not endpoint.is_open:
            call.client = self._access.enter(context)
            drain.calls += endpoint.work
        if self._tracer:  # not before: the context of somebody who may not call is nobody's
            metadata = context.invocation_metadata() or ()
            call.trace = self._tracer.begin(method.service, method.name, metadata, call.request_id)
            call.spans = call.trace if call.trace and call.trace.recording else None

    async def _fail(self, endpoint: "_Endpoint", call: RequestContext, err: BaseException, context: _Context) -> None:
        """Count a call that ended with an exception, and answer it; returns if there is nobody to answer."""
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
                log.error("request %s of %s failed", call.request_id, endpoint.method.name, exc_info=err)
                refusal = InternalError(f"internal error; the server's log has it under request id {call.request_id}")
                code = grpc.StatusCode.INTERNAL
            case _:  # the process ends
                code = grpc.StatusCode.UNKNOWN
        if refusal and call.client is None and refusal.reason in REJECTIONS:
            self._metrics.rejected.labels(refusal.reason).inc()
        self._finish(endpoint, call, code)
        if refusal:  # counted first: whoever has the answer finds it in the metrics
            await _abort(context, refusal, call.request_id)

    def _finish(self, endpoint: "_Endpoint", call: RequestContext, code: grpc.StatusCode) -> None:
        if call.client is not None:
            self._access.leave(call.client)
            self.drain.calls -= endpoint.work
            if self.drain.draining:
                self.drain.ended()
        if call.trace:
            call.trace.end(code.value[0], code.name, call.model)
        seconds = time.monotonic() - call.started
        endpoint.metrics.handled(code.name).inc()
        endpoint.metrics.handling.observe(seconds)
        if log.isEnabledFor(endpoint.level):
            log.log(endpoint.level, log_line(call, endpoint.method.name, code, seconds))


class _Endpoint(NamedTuple):
    """A method, with what each of its calls needs.

    Attributes:
        method: its name and kind.
        metrics: where its calls are counted.
        work: whether it is what the server is there for.
        is_open: whether it is asked without a token.
        level: of its lines in the log.
    """

    method: Method
    metrics: MethodMetrics
    work: bool
    is_open: bool
    level: int


def _request_id(context: _Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID and _SAFE_ID.fullmatch(str(value)):
            return str(value)
    return f"{_PROCESS_ID}{next(_numbers):016x}"


def _method(handler: _Handler, path: str) -> Method:
    kind = "unary"
    if handler.response_streaming:
        kind = "bidi_stream" if handler.request_streaming else "server_stream"
    return Method(kind, _service(path), path.rpartition("/")[2])


def _service(path: str) -> str:
    return path.split("/", 2)[1]


async def _write(context: _Context, response: Any) -> None:
    try:
        await context.write(response)
    except grpc.aio.InternalError as err:  # what grpc raises when the client leaves during a write
        raise asyncio.CancelledError from err


async def _abort(context: _Context, err: StylewireError, request_id: str) -> None:
    err.request_id = request_id
    status = rpc_status.to_status(to_status(err))
    metadata = (*status.trailing_metadata, (REQUEST_ID, request_id), *pushback(err))
    try:
        await context.abort(status.code, status.details, metadata)
    except grpc.aio.InternalError as failure:  # the client has left
        raise asyncio.CancelledError from failure


def _set_code(context: _Context) -> grpc.StatusCode:
    """Return the status that a handler set by itself; grpc has a number, an enum, or nothing."""
    return _CODES.get(context.code(), grpc.StatusCode.OK)
