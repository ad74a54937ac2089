"""All Tritons that a server has: finding them, following which of them are ready, and giving each batch to one."""

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Iterable
from contextlib import suppress

from stylewire.errors import DrainingError
from stylewire.server.engine.backends import RemoteOptions
from stylewire.server.engine.backends.triton.call import Call, Result
from stylewire.server.engine.backends.triton.contract import Contract, Graph
from stylewire.server.engine.backends.triton.errors import RETRY_SECONDS, CallError, late, unreachable
from stylewire.server.engine.backends.triton.server import Server

log = logging.getLogger(__name__)

_FIND_SECONDS, _LOG_SECONDS = 5.0, 10.0


class TritonServers:
    """The Tritons behind some addresses; made and used on one event loop.

    A name that has several addresses, as a headless Service of Kubernetes, stands for as many servers.

    Args:
        options: where they are, and how they are reached.

    Attributes:
        servers: by address.
    """

    def __init__(self, options: RemoteOptions) -> None:
        self._options, self.loop = options, asyncio.get_running_loop()
        self.name = f"triton {','.join(options.addresses)}"
        self.servers: dict[str, Server] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._graphs: dict[Graph, None] = {}  # in order, and changed while others look through it: see _known
        self._probed, self._closed = asyncio.Event(), False
        self._met = False
        self._finder: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether a server has all graphs; another may be asked for any of them."""
        graphs = tuple(self._graphs)
        return bool(graphs) and any(all(graph in each.contracts for graph in graphs) for each in self._all)

    def start(self) -> None:
        """Start to resolve and probe the servers."""
        self._finder = self.loop.create_task(self._find())

    def interrupt(self) -> None:
        """End all waits for a server; on the event loop."""
        self._closed = True
        self._notify()

    async def close(self) -> None:
        """End all connections."""
        self.interrupt()
        tasks = [*self._followers.values(), *([self._finder] if self._finder else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(server.close() for server in self._all))
        self.servers.clear()

    # --- for backends, from their threads ----------------------------------------------------------------------------

    def add(self, graph: Graph) -> list[Contract]:
        """Wait until a server has a graph and passes its self-check; return how each of them runs it.

        There is no limit to that before the first one is met: whoever started this process knows how long to wait.

        Raises:
            BackendUnavailableError: the servers are there and have it not, or all have gone.
            ManifestError: what they have is another one.
            DrainingError: the server stops.
        """
        return asyncio.run_coroutine_threadsafe(self._add(graph), self.loop).result()

    def remove(self, graph: Graph) -> None:
        """Stop to probe for a graph."""
        with suppress(RuntimeError):  # the loop is closed, and everything with it
            self.loop.call_soon_threadsafe(self._remove, graph)

    # --- on the event loop -------------------------------------------------------------------------------------------

    async def infer(self, call: Call) -> Result:
        """Run a batch on the server that has the least to do; on another one if that one cannot.

        Raises:
            BackendUnavailableError: no server is ready, or all failed.
            OverloadedError: their queues are full.
            DeadlineError: the deadline passed.
        """
        tried = set[Server]()
        error: Exception = unreachable(call.graph.name)
        while server := self._pick(call.graph, tried):
            tried.add(server)
            try:
                return await server.infer(call)
            except CallError as err:
                error = err.failure.error
                if not err.failure.elsewhere:
                    break
            if call.deadline is not None and call.deadline <= time.monotonic():
                error = late(call.graph.name).error
                break
        raise error

    def _pick(self, graph: Graph, tried: set[Server]) -> Server | None:
        able = (server for server in self._all if graph in server.contracts and server not in tried)
        return min(able, key=lambda each: each.outstanding / each.contracts[graph].instance_count, default=None)

    @property
    def _all(self) -> tuple[Server, ...]:
        return tuple(self.servers.values())

    async def _add(self, graph: Graph) -> list[Contract]:
        self._graphs[graph] = None
        before = {server: server.probe_count for server in self._all}
        for server in self._all:
            server.wake.set()
        logged = time.monotonic() - _LOG_SECONDS + RETRY_SECONDS  # a moment is not logged
        try:
            while True:
                probed = self._probed
                if contracts := self._decide(graph, before):
                    self._met = True
                    return contracts
                if not self._met and time.monotonic() - logged > _LOG_SECONDS:
                    logged = time.monotonic()
                    self._log_waiting(graph)
                await probed.wait()
        except BaseException:
            self._remove(graph)
            raise

    def _knows(self, server: Server, graph: Graph, before: int) -> bool:
        if graph in server.contracts or graph in server.problems:
            return True
        return bool(server.reason) and server.probe_count > before

    def _decide(self, graph: Graph, before: dict[Server, int]) -> list[Contract]:
        """Return the contracts of servers that have a graph, when all were probed; none while it is to be waited for.

        Raises:
            BackendUnavailableError, ManifestError, DrainingError: as ``add``.
        """
        if self._closed:
            raise DrainingError("the server is stopping; send the request to another one")
        if not self.servers or not all(self._knows(each, graph, before.get(each, 0)) for each in self._all):
            return []
        if contracts := [each.contracts[graph] for each in self._all if graph in each.contracts]:
            return contracts
        problems = [each.problems[graph] for each in self._all if graph in each.problems]
        if len(problems) == len(self.servers):
            raise problems[0]
        if self._met:
            raise unreachable(graph.name)
        return []

    def _log_waiting(self, graph: Graph) -> None:
        reasons = "; ".join(f"{each.address}: {each.reason or each.problems.get(graph, '')}" for each in self._all)
        log.warning("waiting for a Triton that has %s (%s)", graph.name, reasons or "no address is known yet")

    def _remove(self, graph: Graph) -> None:
        self._graphs.pop(graph, None)
        for server in self._all:
            server.forget(graph)

    def _notify(self) -> None:
        self._probed.set()
        self._probed = asyncio.Event()

    async def _find(self) -> None:
        """Resolve the addresses again and again."""
        fixed = not any(map(_is_name, self._options.addresses))
        while True:
            found = dict[str, str]()
            for address in self._options.addresses:
                found |= await self._resolve(address)
            self._follow_only(found)
            if fixed:
                return
            await asyncio.sleep(_FIND_SECONDS if found else RETRY_SECONDS)

    async def _resolve(self, address: str) -> dict[str, str]:
        """Resolve an address: address -> name of the host."""
        host, port = _split(address)
        try:
            found = await self.loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except OSError as err:
            log.debug("triton %s: %s", address, err)
            # What is connected stays: a name server that is away says nothing about Triton.
            return {each: host for each in self.servers if each in self._followers and self._name_of(each) == host}
        plain = [each for each in found if each[0] == socket.AF_INET] or found  # of a pod with two, one is enough
        texts = (str(each[4][0]) for each in plain)
        return {f"[{text}]:{port}" if ":" in text else f"{text}:{port}": host for text in texts}

    def _name_of(self, address: str) -> str:
        return self.servers[address].host

    def _follow_only(self, found: dict[str, str]) -> None:
        for address, host in found.items():
            if address not in self.servers:
                server = self.servers[address] = Server(address, host, self._options)
                self._followers[address] = self.loop.create_task(self._follow(server))
        for address in self.servers.keys() - found.keys():
            log.info("triton %s is gone", address)
            self._followers.pop(address).cancel()

    async def _follow(self, server: Server) -> None:
        """Probe a server again and again; log when it comes and goes."""
        was: bool | None = None
        try:
            while True:
                server.wake.clear()
                await server.probe(self._known())
                if (reached := not server.reason) != was:
                    was = reached
                    text = "is there" if reached else f"is not used: {server.reason}"
                    log.log(logging.INFO if reached else logging.WARNING, "triton %s %s", server.address, text)
                self._notify()
                with suppress(TimeoutError):  # not wait_for: before Python 3.12 it may lose a cancellation
                    async with asyncio.timeout(RETRY_SECONDS):
                        await server.wake.wait()
        finally:
            if self.servers.get(server.address) is server and not self._closed:
                del self.servers[server.address]
                await server.close()

    def _known(self) -> Iterable[Graph]:
        return tuple(self._graphs)


def _split(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), port


def _is_name(address: str) -> bool:
    try:
        ipaddress.ip_address(_split(address)[0])
    except ValueError:
        return True
    return False
