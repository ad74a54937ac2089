"""The errors of stylewire: what the server raises is what the SDK raises.

StylewireError
├── InvalidFieldError         your request is wrong; every wrong field is named
├── ModelNotFoundError        no such model or encoder
├── UnsupportedError          this model cannot do what the request asks
│   ├── NoFaceError           alignment found no face
│   └── ModelLoadError        a model directory cannot be loaded; what was served before still is
├── UnauthenticatedError      no valid credentials
├── PermissionDeniedError     valid credentials, not allowed
├── DeadlineError             the deadline cannot be met, or passed in the queue
├── RetryableError            the request is fine; try again later
│   ├── ModelNotReadyError    loading, or failed to load
│   ├── DrainingError         the server is about to stop
│   ├── BackendUnavailableError   what runs the graphs cannot be reached
│   ├── OverloadedError       the queue is full
│   │   └── RateLimitedError  this client calls too often, or has too many calls under way
│   └── UnreachableError      client side only: no server answered
└── InternalError             a bug of the server; its log has the traceback under the request id

``_TABLE`` is used both ways: exception -> google.rpc.Status on the server, status -> exception in the SDK.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "stylewire"
_VIOLATIONS_BYTES = 6000
"""Trailing metadata over 8 KiB may be dropped by clients; the status is sent twice (text and details)."""


class Violation(NamedTuple):
    """One wrong field of a request.

    Attributes:
        field: path in the request, such as ``styles[1].layer_range.end_layer``.
        description: what was found, what is allowed.
    """

    field: str
    description: str


class StylewireError(Exception):
    """Base of all errors that may be told to a caller.

    Attributes:
        message: one sentence that says what to do.
        violations: the wrong fields.
        retry_after_seconds: when another try makes sense.
        resource: what was not found, as type and name.
        request_id: the server's id of the call, when known.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        retry_after_seconds: float | None = None,
        resource: tuple[str, str] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.violations = tuple(violations)
        self.retry_after_seconds = retry_after_seconds
        self.resource = resource
        self.request_id = request_id


class InvalidFieldError(StylewireError):
    """One or more fields of the request are wrong."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_FIELD"

    @classmethod
    def of(cls, violations: Sequence[Violation]) -> "InvalidFieldError":
        """Make the error that names every violation."""
        text = "; ".join(f"{v.field}: {v.description}" if v.field else v.description for v in violations[:3])
        more = f" (and {len(violations) - 3} more)" if len(violations) > 3 else ""
        return cls(text[:800] + more, violations=violations)


class ModelNotFoundError(StylewireError):
    """The server has no model, or the model no encoder, of this name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "MODEL_NOT_FOUND"


class UnsupportedError(StylewireError):
    """The model lacks what the request needs, or codes of different latent spaces meet."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "UNSUPPORTED"


class NoFaceError(UnsupportedError):
    """Alignment was asked for and no face was found."""

    reason = "NO_FACE"


class ModelLoadError(UnsupportedError):
    """A model directory cannot be loaded; what was served before still is."""

    reason = "MODEL_LOAD_FAILED"


class UnauthenticatedError(StylewireError):
    """The call carries no valid credentials."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class PermissionDeniedError(StylewireError):
    """The credentials do not allow this call."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class DeadlineError(StylewireError):
    """The deadline cannot be met, or passed while the request waited."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE"


class RetryableError(StylewireError):
    """The request is fine and was not executed; the same request may succeed later."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"


class ModelNotReadyError(RetryableError):
    """The model is being loaded or failed to load."""

    reason = "MODEL_NOT_READY"


class DrainingError(RetryableError):
    """The server is about to stop; another one will answer."""

    reason = "DRAINING"


class BackendUnavailableError(RetryableError):
    """What runs the graphs cannot be reached."""

    reason = "BACKEND_UNAVAILABLE"


class OverloadedError(RetryableError):
    """The queue is full; ``retry_after_seconds`` is computed from the backlog."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"


class RateLimitedError(OverloadedError):
    """This client calls more often than it may, or has too many calls under way."""

    reason = "RATE_LIMITED"


class UnreachableError(RetryableError):
    """No server answered. Raised by the SDK only."""

    reason = "UNREACHABLE"


class InternalError(StylewireError):
    """A bug of the server; its log has the traceback under the request id."""


_TABLE: dict[str, type[StylewireError]] = {
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
    """Turn an error into the status that travels in ``grpc-status-details-bin``."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code.name), message=error.message[:1000])
    for detail in _details(error):
        status.details.add().Pack(detail)
    return status


def from_rpc_error(error: grpc.RpcError) -> StylewireError:
    """Turn what grpc raised in a client into the error that the server raised."""
    pairs = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    metadata = {key: value for key, value in pairs if isinstance(value, str)}
    details = list(_unpack(error))
    info = next((d for d in details if isinstance(d, error_details_pb2.ErrorInfo) and d.domain == DOMAIN), None)
    known = _TABLE.get(info.reason) if info else None
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
