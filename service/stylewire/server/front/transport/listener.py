"""The gRPC server itself: limits of connections, TLS, reflection, and the port."""

from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from stylewire import oip_pb, pb
from stylewire.server.config.settings import Settings, port_taken
from stylewire.server.front.auth.tls import Certificates
from stylewire.server.front.transport.interceptor import Interceptor
from stylewire.server.telemetry.metrics import Method

_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
_OWN_FILES = (pb.STYLEGAN_SERVICE_FILE, pb.MODEL_SERVICE_FILE, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
_SERVICE_FILES = (*_OWN_FILES, oip_pb.FILE)


def make_server(settings: Settings, interceptor: Interceptor, *, shared: bool) -> grpc.aio.Server:
    """Make a server without services.

    Args:
        settings: limits of messages and connections.
        interceptor: wraps every method.
        shared: whether other processes listen on the same port.
    """
    return grpc.aio.server(interceptors=[interceptor], options=_options(settings, shared=shared))


def listen(server: grpc.aio.Server, settings: Settings) -> int:
    """Take the port.

    Returns:
        Its number.

    Raises:
        SettingError: it is taken, or a file of TLS is wrong.
    """
    address = f"{settings.host}:{settings.port}"
    certificates = Certificates(settings) if settings.tls_certificate else None
    try:
        if certificates:
            return server.add_secure_port(address, certificates.credentials())
        return server.add_insecure_port(address)
    except RuntimeError as err:
        raise port_taken(address) from err


def add_reflection(server: grpc.aio.Server) -> None:
    """Serve reflection as v1alpha and v1: the two differ in nothing but the package's name."""
    names = [pb.STYLEGAN_SERVICE, pb.MODEL_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME, oip_pb.SERVICE]
    servicer = reflection.aio.ReflectionServicer(names, _described())
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
    for name in (reflection.SERVICE_NAME, _REFLECTION_V1):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


def _described() -> DescriptorPool:
    """Put the files of all services into one pool: those of the Open Inference Protocol are not in protobuf's own."""
    pool, known = DescriptorPool(), set[str]()

    def add(file: FileDescriptor) -> None:
        if file.name not in known:
            known.add(file.name)
            for each in file.dependencies:
                add(each)
            pool.AddSerializedFile(file.serialized_pb)

    for file in _SERVICE_FILES:
        add(file)
    return pool


def admin_methods() -> list[Method]:
    """List the methods of the server for administrators."""
    service = pb.ADMIN_SERVICE_FILE.services_by_name["AdminService"]
    return [Method("unary", service.full_name, method.name) for method in service.methods]


def methods() -> list[Method]:
    """List all methods that a server may have."""
    kinds = {(False, False): "unary", (False, True): "server_stream", (True, True): "bidi_stream"}
    described = [
        Method(kinds[method.client_streaming, method.server_streaming], service.full_name, method.name)
        for file in _SERVICE_FILES
        for service in file.services_by_name.values()
        for method in service.methods
    ]
    return [*described, Method("bidi_stream", _REFLECTION_V1, "ServerReflectionInfo")]


def _options(settings: Settings, *, shared: bool) -> list[tuple[str, int]]:
    size = settings.max_message_bytes
    options = {
        "grpc.max_receive_message_length": size,
        "grpc.max_send_message_length": size,
        # A request of 300 kB may hold 300 MB of zeros, which gRPC inflates before it looks at any limit.
        "grpc.compression_enabled_algorithms_bitset": 1,  # none but identity
        "grpc.so_reuseport": int(shared),  # a second server on the port must fail, not share it
        # A connection that never becomes one holds a file descriptor so long; gRPC's own limits are 120 and 60 s.
        "grpc.server_handshake_timeout_ms": 5_000,
        "grpc.http2.settings_timeout": 5_000,
        "grpc.keepalive_time_ms": _milliseconds(settings.keepalive_seconds),
        "grpc.keepalive_timeout_ms": _milliseconds(settings.keepalive_timeout_seconds),
        # The SDK pings every minute while a call waits; gRPC's own least interval of 5 minutes ends in GOAWAY.
        "grpc.http2.min_ping_interval_without_data_ms": _milliseconds(settings.min_ping_seconds),
    }
    if settings.max_concurrent_streams:
        options["grpc.max_concurrent_streams"] = settings.max_concurrent_streams
    for name in ("max_connection_idle", "max_connection_age", "max_connection_age_grace"):
        if seconds := getattr(settings, f"{name}_seconds"):
            options[f"grpc.{name}_ms"] = _milliseconds(seconds)
    return list(options.items())


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1e3)
