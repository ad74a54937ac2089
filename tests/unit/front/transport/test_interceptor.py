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


def test_draining_server_refuses_calls():
    """From the first moment of a drain calls get DrainingError, and are not counted as in flight."""
    interceptor, context = Interceptor(Metrics(), Access.of(Settings())), AbortedContext()

    async def story():
        handler = await interceptor.intercept_service(find, DETAILS)
        draining = asyncio.create_task(interceptor.drain.drain(60))
        await asyncio.sleep(0)
        with pytest.raises(grpc.aio.AbortError):
            await handler.unary_unary(b"", context)
        calls = interceptor.drain.calls
        await draining
        return calls

    assert 0 == asyncio.run(story())
    assert (grpc.StatusCode.UNAVAILABLE, "the server is stopping; send the request to another one") == context.aborted


class AbortedContext(LeftContext):
    """A call whose client hears that it was refused."""

    async def abort(self, code, details, trailers):
        self.aborted = code, details
        raise grpc.aio.AbortError
