"""Calls that must fail."""

import grpc
import pytest

from stylewire.errors import StylewireError
from stylewire.status import from_rpc_error


def failure(call, request, **options) -> grpc.RpcError:
    """What grpc raises for a call of one reply or of a stream."""
    with pytest.raises(grpc.RpcError) as caught:
        consume(call(request, **options))
    return caught.value


def refusal(call, request, **options) -> StylewireError:
    """The error of a call as the SDK raises it."""
    return from_rpc_error(failure(call, request, **options))


def consume(reply):
    """Read a stream to its end; a single reply is returned as it is."""
    return list(reply) if hasattr(reply, "__next__") else reply
