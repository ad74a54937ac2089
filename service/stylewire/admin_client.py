"""``AdminClient``: what an administrator can change while a server runs. Callers of a server have no use for it."""

from types import TracebackType
from typing import Self

import grpc

from stylewire import pb
from stylewire.connection import channel_options, typed_errors

DEFAULT_TIMEOUT_SECONDS = 600.0
"""A full-size model takes minutes to load where its graphs are compiled."""


class AdminClient:
    """Loads and unloads the models of a server; raises a ``StylewireError`` of the class that the server raised.

    Args:
        address: the server's ``--admin-address``: ``unix:/path`` or ``host:port``.
        timeout: deadline of an operation in seconds; one that takes longer goes on in the server.
    """

    def __init__(self, address: str, *, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self.address = address
        self.timeout = timeout
        self._channel = grpc.insecure_channel(address, options=channel_options(address))
        self._stub = pb.AdminServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; operations under way go on in the server."""
        self._channel.close()

    def load(self, name: str, version: str = "") -> pb.Model:
        """Load a model of the server's folder; an empty version means the newest."""
        with typed_errors(self.address):
            request = pb.LoadModelRequest(name=name, version=version)
            return self._stub.LoadModel(request, timeout=self.timeout).model

    def unload(self, name: str, version: str = "") -> list[pb.Model]:
        """Retire a version of a model; an empty one means all."""
        with typed_errors(self.address):
            request = pb.UnloadModelRequest(name=name, version=version)
            return list(self._stub.UnloadModel(request, timeout=self.timeout).models)

    def reload(self, name: str, version: str = "") -> pb.Model:
        """Load a model once more and replace it; an empty version means the newest that is loaded."""
        with typed_errors(self.address):
            request = pb.ReloadModelRequest(name=name, version=version)
            return self._stub.ReloadModel(request, timeout=self.timeout).model
