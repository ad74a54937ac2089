"""``AdminClient``: the RPCs of AdminService, which load and unload models while a server runs."""

from stylewire import pb
from stylewire.client.connection import Connection
from stylewire.security import Security

DEFAULT_TIMEOUT_SECONDS = 600.0
"""A full-size model takes minutes to load where its graphs are compiled."""


class AdminClient(Connection):
    """Loads and unloads the models of a server; raises a ``StylewireError`` of the class that the server raised.

    Args:
        address: the server's ``--admin-address``: ``unix:/path`` or ``host:port``.
        timeout: deadline of an operation in seconds; one that takes longer goes on in the server.
        security: for a proxy in between; the server's admin address itself has neither TLS nor tokens.
    """

    def __init__(
        self, address: str, *, timeout: float = DEFAULT_TIMEOUT_SECONDS, security: Security | None = None
    ) -> None:
        super().__init__(address, timeout=timeout, security=security)
        self._stub = pb.AdminServiceStub(self._channel)

    def load(self, name: str, version: str = "") -> pb.Model:
        """Load a model of the server's model repository; an empty version means the newest."""
        return self._call(self._stub.LoadModel, pb.LoadModelRequest(name=name, version=version)).model

    def unload(self, name: str, version: str = "") -> list[pb.Model]:
        """Unload a version of a model; an empty one means all."""
        return list(self._call(self._stub.UnloadModel, pb.UnloadModelRequest(name=name, version=version)).models)

    def reload(self, name: str, version: str = "") -> pb.Model:
        """Load a model once more and replace it; an empty version means the newest that is loaded."""
        return self._call(self._stub.ReloadModel, pb.ReloadModelRequest(name=name, version=version)).model
