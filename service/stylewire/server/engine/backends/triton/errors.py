"""What Triton's errors mean: for the caller, for the batch (may another server try it?) and for the server itself."""

import logging
from typing import Any, NamedTuple

from stylewire.errors import BackendUnavailableError, DeadlineError, OverloadedError, StylewireError

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""When callers may retry: servers are probed this often."""
_OVERLOAD_SECONDS = 0.25
"""When callers may retry where a queue is full: it moves while they wait."""
_RETRY_SECONDS: dict[type[StylewireError], float] = {
    BackendUnavailableError: RETRY_SECONDS,
    OverloadedError: _OVERLOAD_SECONDS,
}
HINT = "make its repository with stylewire-export triton-repository"


class Failure(NamedTuple):
    """Why a call to a server failed.

    Attributes:
        error: for callers; nothing of Triton's own text, which the log has.
        elsewhere: whether another server may be asked: this one has executed nothing, or all of it can be repeated.
        lost: whether the server gets nothing more until it has been probed again.
        forgot_memory: whether it does not know the shared memory of the call; the same call may do without.
    """

    error: StylewireError
    elsewhere: bool = True
    lost: bool = False
    forgot_memory: bool = False


class CallError(Exception):
    """A call to one server failed.

    Attributes:
        failure: what that means.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error.message)
        self.failure = failure


class _Rule(NamedTuple):
    """The meaning of a status whose text has these words.

    Attributes:
        status: name of gRPC's code; empty for any.
        words: part of the text; Triton has few codes, and some of its reasons differ in the text only.
        error: class of the error for callers.
        message: for callers; ``{}`` is the graph.
        elsewhere: as in ``Failure``.
        lost: as in ``Failure``.
        forgot_memory: as in ``Failure``.
    """

    status: str
    words: str
    error: type[StylewireError]
    message: str
    elsewhere: bool = True
    lost: bool = False
    forgot_memory: bool = False


_UNREACHABLE = "no Triton that has {} can be reached; retry"
_FULL = "the queue of {} at Triton is full; retry later"
_RULES = (
    _Rule("UNAVAILABLE", "maximum queue size", OverloadedError, _FULL),
    _Rule("RESOURCE_EXHAUSTED", "larger than max", BackendUnavailableError, "Triton takes no message as large as {}'s"),
    _Rule("RESOURCE_EXHAUSTED", "", OverloadedError, _FULL),  # of another stylewire
    _Rule("UNAVAILABLE", "timeout expired", DeadlineError, "the deadline passed while {} waited at Triton", False),
    _Rule("DEADLINE_EXCEEDED", "", DeadlineError, "the deadline passed while {} was at Triton", False),
    _Rule("UNAVAILABLE", "", BackendUnavailableError, _UNREACHABLE, lost=True),
    _Rule("CANCELLED", "", BackendUnavailableError, _UNREACHABLE, lost=True),  # not by us: the connection is closed
    # Also sent by a Triton that stops, of models that it has.
    _Rule("NOT_FOUND", "", BackendUnavailableError, f"Triton has no {{}}: {HINT}", lost=True),
    _Rule("INVALID_ARGUMENT", "shared memory", BackendUnavailableError, _UNREACHABLE, forgot_memory=True),
    _Rule("INVALID_ARGUMENT", "", BackendUnavailableError, f"Triton refuses the tensors of {{}}: {HINT}"),
    _Rule("", "", BackendUnavailableError, "Triton failed to run {}; its log says why"),
)
"""The first that fits counts."""


def judge(err: Any, graph: str, address: str) -> Failure:
    """Classify an error of tritonclient.

    Args:
        err: ``InferenceServerException``.
        graph: name of the model at Triton, such as ``avatars.synthesis``.
        address: of the server.
    """
    status, text = str(err.status() or "").removeprefix("StatusCode."), str(err.message() or "")
    rule = next(each for each in _RULES if each.status in ("", status) and each.words in text)
    expected = rule.error is not BackendUnavailableError
    log.log(logging.DEBUG if expected else logging.WARNING, "triton %s: %s: %s %s", address, graph, status, text)
    retry = _RETRY_SECONDS.get(rule.error)
    error = rule.error(rule.message.format(graph), retry_after_seconds=retry)
    return Failure(error, rule.elsewhere, rule.lost, rule.forgot_memory)


def late(graph: str) -> Failure:
    """Return the failure of a batch whose deadline has passed."""
    return Failure(DeadlineError(f"the deadline passed while {graph} was at Triton"), elsewhere=False)


def hanging(graph: str) -> Failure:
    """Return the failure of a server that has not responded for longer than it is waited for."""
    return Failure(unavailable(f"{graph} hangs at Triton; retry"), lost=True)


def unavailable(message: str) -> BackendUnavailableError:
    """Return an error for callers with the hint to retry."""
    return BackendUnavailableError(message, retry_after_seconds=RETRY_SECONDS)


def unreachable(graph: str) -> BackendUnavailableError:
    """Return the error for the case that no server can be called."""
    return unavailable(_UNREACHABLE.format(graph))
