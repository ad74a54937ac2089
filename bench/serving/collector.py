"""A collector that takes spans and does nothing with them, so that what tracing costs is what it costs the server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

_SERVICE, _METHOD = "opentelemetry.proto.collector.trace.v1.TraceService", "Export"


class Collector:
    """What came in.

    Attributes:
        endpoint: for ``--otlp-endpoint``.
        byte_count: of all exports; they are not even parsed.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.byte_count = 0

    def export(self, request: bytes, context: object) -> bytes:  # noqa: ARG002 - as grpc calls it
        """Take some spans."""
        self.byte_count += len(request)
        return b""


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector in this process, which only waits while load is made."""
    with ThreadPoolExecutor(2) as threads:
        collector, server = Collector(), grpc.server(threads)
        method = grpc.unary_unary_rpc_method_handler(collector.export)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: method}),))
        collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield collector
        server.stop(None).wait()
