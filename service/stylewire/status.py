"""Exception <-> google.rpc.Status, and the pushback header: one table, both directions.

The server turns what was raised into a status; the SDK turns the status into the same exception.
"""

from collections.abc import Iterable, Iterator
from typing import cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

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

DOMAIN = "stylewire"
_VIOLATIONS_BYTES = 6000
"""Trailing metadata over 8 KiB may be dropped by clients; the status is sent twice (text and details)."""
_PUSHBACK = "grpc-retry-pushback-ms"

BY_REASON: dict[str, type[StylewireError]] = {
    cls.reason: cls
    for cls in (
        InvalidFieldError,
        ModelNotFoundError,
        UnsupportedError,
        NoFaceError,
        ModelLoadError,
        UnauthenticatedError,
        PermissionDeniedError,
        DeadlineError,
        RetryableError,
        ModelNotReadyError,
        DrainingError,
        BackendUnavailableError,
        OverloadedError,
        RateLimitedError,
        InternalError,
    )
}
"""What a server may raise, by the reason in ErrorInfo."""
_FALLBACK: dict[grpc.StatusCode, type[StylewireError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidFieldError,
    grpc.StatusCode.NOT_FOUND: ModelNotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: UnsupportedError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.UNAVAILABLE: UnreachableError,
    grpc.StatusCode.CANCELLED: UnreachableError,  # not by us: the server closed before the call got in
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
}
"""For a status without ErrorInfo: made by gRPC itself, or by a proxy on the way."""


def to_status(error: StylewireError) -> status_pb2.Status:
    """Convert an error to the status that is sent in ``grpc-status-details-bin``."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code.name), message=error.message[:1000])
    for detail in _details(error):
        status.details.add().Pack(detail)
    return status


def from_rpc_error(error: grpc.RpcError) -> StylewireError:
    """Convert what grpc raised in a client to the error that the server raised."""
    pairs = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    metadata = {key: value for key, value in pairs if isinstance(value, str)}
    details = list(_unpack(error))
    info = next((d for d in details if isinstance(d, error_details_pb2.ErrorInfo) and d.domain == DOMAIN), None)
    known = BY_REASON.get(info.reason) if info else None
    cls = known or _FALLBACK.get(error.code(), InternalError)
    return cls(
        error.details() or error.code().name,
        violations=[
            Violation(v.field, v.description)
            for d in details
            if isinstance(d, error_details_pb2.BadRequest)
            for v in d.field_violations
        ],
        retry_after_seconds=next(
            (
                d.retry_delay.ToTimedelta().total_seconds()
                for d in details
                if isinstance(d, error_details_pb2.RetryInfo)
            ),
            None,
        ),
        resource=next(
            ((d.resource_type, d.resource_name) for d in details if isinstance(d, error_details_pb2.ResourceInfo)),
            None,
        ),
        request_id=metadata.get("x-request-id"),
    )


def pushback(error: StylewireError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata that a server adds to an overload error: when to retry."""
    if not isinstance(error, OverloadedError) or error.retry_after_seconds is None:
        return ()
    return ((_PUSHBACK, f"{round(error.retry_after_seconds * 1e3)}"),)


def pushback_seconds(error: grpc.RpcError) -> float | None:
    """Return the pause that a server asks for, in seconds: negative for "never retry", None where it names none.

    Source: gRFC A6, "Pushback".
    """
    metadata = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    text = next((value for key, value in metadata if key == _PUSHBACK), None)
    if text is None:
        return None
    try:
        return int(text) / 1e3
    except ValueError:
        return -1.0


def _details(error: StylewireError) -> Iterator[Message]:
    metadata = {"request_id": error.request_id} if error.request_id else {}
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    if error.violations:
        yield error_details_pb2.BadRequest(field_violations=_within_budget(error.violations))
    if error.retry_after_seconds is not None:
        yield error_details_pb2.RetryInfo(retry_delay=_duration(error.retry_after_seconds))
    if error.resource:
        yield error_details_pb2.ResourceInfo(resource_type=error.resource[0], resource_name=error.resource[1])
    if isinstance(error, UnsupportedError):
        violation = error_details_pb2.PreconditionFailure.Violation(type=error.reason, description=error.message)
        yield error_details_pb2.PreconditionFailure(violations=[violation])


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(max(0, int(seconds * 1e9)))
    return duration


def _within_budget(violations: Iterable[Violation]) -> Iterator[error_details_pb2.BadRequest.FieldViolation]:
    budget, left_out = _VIOLATIONS_BYTES, 0
    for field, description in violations:
        budget -= len(field.encode()) + len(description.encode()) + 8
        if budget < 0:
            left_out += 1
        else:
            yield error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
    if left_out:
        yield error_details_pb2.BadRequest.FieldViolation(description=f"and {left_out} more wrong fields")


def _unpack(error: grpc.RpcError) -> Iterator[Message]:
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # code and details disagree: a proxy replaced one of them
        return
    for packed in status.details if status else ():
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.BadRequest,
            error_details_pb2.RetryInfo,
            error_details_pb2.ResourceInfo,
        ):
            message = kind()
            if packed.Unpack(message):
                yield message
