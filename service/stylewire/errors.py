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
│   │   └── RateLimitedError  this client calls too often, or has too many calls in flight
│   └── UnreachableError      client side only: no server answered
└── InternalError             a bug of the server; its log has the traceback under the request id

How they travel: ``stylewire.status``.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import grpc


class Violation(NamedTuple):
    """One wrong field of a request.

    Attributes:
        field: path in the request, such as ``styles[1].layer_range.end_layer``.
        description: what was found, what is allowed.
    """

    field: str
    description: str


class StylewireError(Exception):
    """Base of all errors that may be returned to a caller.

    Attributes:
        message: one sentence: what is wrong, and what to do.
        violations: the wrong fields.
        retry_after_seconds: the pause before a retry; None where it is unknown.
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
        """Make the error of several violations; its message has the first three."""
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
    """This client calls more often than it may, or has too many calls in flight."""

    reason = "RATE_LIMITED"


class UnreachableError(RetryableError):
    """No server answered. Raised by the SDK only."""

    reason = "UNREACHABLE"


class InternalError(StylewireError):
    """A bug of the server; its log has the traceback under the request id."""
