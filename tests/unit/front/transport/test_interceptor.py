"""What the interceptor does where no real client can be made to act at the right moment."""

import asyncio
from types import SimpleNamespace

import grpc
import pytest

from stylewire import pb
from stylewire.errors import DrainingError
from stylewire.server.config.settings import Settings
from stylewire.server.front.auth.access import Access
from stylewire.server.front.transport.interceptor import Interceptor
from stylewire.server.telemetry.metrics import Metrics

DETAILS = SimpleNamespace(method=f"/{pb.MODEL_SERVICE}/GetModel", invocation_metadata=())


class LeftContext:
    """A call whose client has left, which the server is about to hear."""

    def invocation_metadata(self):
        return ()

    def peer(self):
        return "ipv4:127.0.0.1:1"

    def time_remaining(self):
        return None

    def set_trailing_metadata(self, metadata):
        pass

    async def abort(self, *_):
        raise grpc.aio.InternalError("Failed execute_batch")


async def refuse(request, context):
    raise DrainingError("the server is stopping")


async def find(details):
    return grpc.unary_unary_rpc_method_handler(refuse, pb.GetModelRequest.FromString)


def test_refusing_a_client_that_has_left_is_no_failure():
    """The answer to nobody ends as a cancelled call does; grpc would log a traceback for anything else."""
    metrics = Metrics()

    async def story():
        handler = await Interceptor(metrics, Access.of(Settings())).intercept_service(find, DETAILS)
        await handler.unary_unary(b"", LeftContext())

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(story())
    names = "grpc_type", "grpc_service", "grpc_method", "grpc_code"
    labels = dict(zip(names, ("unary", pb.MODEL_SERVICE, "GetModel", "UNAVAILABLE"), strict=True))

    assert 1 == metrics.registry.get_sample_value("grpc_server_handled_total", labels)
