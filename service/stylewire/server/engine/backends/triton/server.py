"""One Triton: probes whether it has the graphs that it should have, and runs batches there."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any

from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from stylewire.errors import StylewireError
from stylewire.manifest import ManifestError
from stylewire.server.engine.backends import RemoteOptions
from stylewire.server.engine.backends.selfcheck import compare
from stylewire.server.engine.backends.triton.call import Call, Layout, Result
from stylewire.server.engine.backends.triton.contract import Contract, Graph, compare_contract
from stylewire.server.engine.backends.triton.errors import HINT, CallError, hanging, judge, late, unavailable
from stylewire.server.engine.backends.triton.shared_memory import Region, SharedMemory

log = logging.getLogger(__name__)

_PROBE_SECONDS, _MOST_MISSES = 5.0, 3
"""How long a server may take to answer a probe, and how often it may fail to: a busy one is slow."""
_UNSURE = frozenset({"UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED"})
"""After these a server may still run the batch, and write what comes of it."""
_CHANNEL = {
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": -1,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 1000,
    "grpc.max_reconnect_backoff_ms": 2000,
    # A server that is probed every second sends something as often: only one that has gone silent gets pings.
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.use_local_subchannel_pool": 1,
}


class Server:
    """One Triton; used on one event loop.

    Args:
        address: as ``host:port``.
        host: the name that its certificate has.
        options: how it is reached.

    Attributes:
        address: as above.
        host: as above.
        contracts: how it runs those graphs that it has, and whose self-check it has passed.
        problems: why it will not do for others.
        probe_count: how often it was probed.
        outstanding: batches that it has.
        reason: why it has no graphs; empty if it can be reached.
        wake: set it to have the server probed now.
    """

    def __init__(self, address: str, host: str, options: RemoteOptions) -> None:
        self.address, self.host, self._options = address, host, options
        self.contracts: dict[Graph, Contract] = {}
        self.problems: dict[Graph, StylewireError | ManifestError] = {}
        self.probe_count = self.outstanding = self._misses = 0
        self.reason = "not probed yet"
        self.wake = asyncio.Event()
        channel = _CHANNEL | ({"grpc.ssl_target_name_override": host} if options.tls_ca else {})
        ca = str(options.tls_ca) if options.tls_ca else None
        self._client = InferenceServerClient(
            address, ssl=ca is not None, root_certificates=ca, channel_args=list(channel.items())
        )
        self._greeted = False
        self._memory: SharedMemory | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def probe(self, graphs: Iterable[Graph]) -> None:
        """Check whether it is ready, and compare its models with the graphs that are new to it."""
        try:
            # As a whole Triton is not ready while it loads anything: what it has already, it still runs.
            ready = await self._client.is_server_ready(client_timeout=_PROBE_SECONDS)
            if not ready and not (self.contracts and await self._client.is_server_live(client_timeout=_PROBE_SECONDS)):
                self.lose("it is not ready")
                return
            if not self._greeted:
                await self._try_shared_memory()
                self._greeted = True
            for graph in graphs:
                if ready or graph in self.contracts:
                    await self._probe_graph(graph)
            self.reason, self._misses = "", 0
        except InferenceServerException as err:
            self._misses += 1
            if "DEADLINE_EXCEEDED" not in str(err.status()) or self._misses >= _MOST_MISSES:
                self.lose(str(err.message()).partition("\n")[0])
        finally:
            self.probe_count += 1

    async def infer(self, call: Call) -> Result:
        """Run a batch.

        Raises:
            CallError: it did not.
        """
        contract = self.contracts[call.graph]
        self.outstanding += 1
        try:
            return await self._infer(call, contract)
        except CallError as err:
            if not err.failure.forgot_memory:
                if err.failure.lost:
                    self.lose(f"a call broke off: {err.__cause__}")
                    self.wake.set()
                raise
            self._forget_memory()  # it is another process than before, as the next probe will show
            return await self._infer(call, contract)
        finally:
            self.outstanding -= 1

    def lose(self, reason: str) -> None:
        """Send it no batch until it has been probed: what comes back may be another Triton."""
        if self.contracts:
            log.warning("triton %s gets nothing more until it has passed its check again: %s", self.address, reason)
        self.contracts.clear()
        self.problems.clear()
        self._forget_memory()
        self.reason, self._misses, self._greeted = reason, 0, False

    def forget(self, graph: Graph) -> None:
        """Stop to probe for a graph."""
        self.contracts.pop(graph, None)
        self.problems.pop(graph, None)

    async def close(self) -> None:
        """Free its memory, and end the connection."""
        if self._memory:
            await self._memory.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    # --- probing -----------------------------------------------------------------------------------------------------

    async def _try_shared_memory(self) -> None:
        """Use shared memory if the server can: if it finds a file by a name that nobody can guess."""
        if not self._options.shared_memory:
            return
        memory = SharedMemory(self._client)
        try:
            await memory.sweep()
            memory.free(await memory.take(1))
        except (OSError, InferenceServerException) as err:
            log.info("triton %s: tensors travel in messages: %s", self.address, err)
            return
        log.info("triton %s: tensors are handed over in shared memory", self.address)
        self._memory = memory

    async def _probe_graph(self, graph: Graph) -> None:
        try:
            if not await self._client.is_model_ready(graph.name, client_timeout=_PROBE_SECONDS):
                raise unavailable(f"Triton has no {graph.name} that is ready: {HINT}")
            if graph not in self.contracts:
                self.contracts[graph] = await self._admit(graph)
                self.problems.pop(graph, None)
        except (StylewireError, ManifestError) as err:
            self._reject(graph, err)
        except CallError as err:
            self._reject(graph, err.failure.error)
        except InferenceServerException as err:
            if "NOT_FOUND" not in str(err.status()):
                raise
            self._reject(graph, judge(err, graph.name, self.address).error)

    def _reject(self, graph: Graph, err: StylewireError | ManifestError) -> None:
        if str(self.problems.get(graph)) != str(err):
            log.warning("triton %s is not used for %s: %s", self.address, graph.name, err)
        self.contracts.pop(graph, None)
        self.problems[graph] = err

    async def _admit(self, graph: Graph) -> Contract:
        """Compare names, types and shapes, then the outputs of the self-check."""
        metadata = await self._client.get_model_metadata(graph.name, client_timeout=_PROBE_SECONDS)
        config = await self._client.get_model_config(graph.name, client_timeout=_PROBE_SECONDS)
        contract = compare_contract(graph, metadata, config.config)
        most = contract.max_batch_size or None
        inputs = {name: array[:most] for name, array in graph.inputs.items()}
        expected = {name: array[:most] for name, array in graph.outputs.items()}
        result = await self._infer(Call(graph, inputs, tuple(expected), None), contract)
        found = result.copy()
        result.release()
        await asyncio.to_thread(compare, f"{graph.name} at Triton", expected, found, parity=graph.parity)
        return contract

    # --- calling -----------------------------------------------------------------------------------------------------

    async def _infer(self, call: Call, contract: Contract) -> Result:
        layout, memory = Layout(call, contract.columns), self._memory
        region = await self._region(layout.byte_count)
        left = call.seconds_left(self._options.patience_seconds)
        try:
            # Triton drops what is cancelled and executes what gRPC says is too late, so the end is a cancellation.
            async with asyncio.timeout(left):
                result = await self._client.infer(
                    call.graph.name,
                    layout.inputs(region),
                    model_version=contract.version,
                    outputs=layout.outputs(region),
                    timeout=max(1, int(left * 1e6)) if call.deadline is not None else None,
                    client_timeout=max(left, 0.0) + _PROBE_SECONDS,
                )
        except InferenceServerException as err:
            if region and memory:
                unsure = str(err.status()).removeprefix("StatusCode.") in _UNSURE
                self._begin(memory.drop(region)) if unsure else memory.free(region)
            raise CallError(judge(err, call.graph.name, self.address)) from err
        except BaseException as err:  # nobody waits for it any more
            if region and memory:
                self._begin(memory.drop(region))
            if isinstance(err, TimeoutError):
                hangs = left == self._options.patience_seconds
                raise CallError(hanging(call.graph.name) if hangs else late(call.graph.name)) from err
            raise
        arrays = layout.read(result, region)
        return Result(arrays, region, memory.free) if region and memory else Result(arrays)

    async def _region(self, byte_count: int) -> Region | None:
        if not byte_count or not self._memory:
            return None
        try:
            return await self._memory.take(byte_count)
        except OSError as err:
            log.warning(
                "triton %s: tensors travel in messages, as there is no more shared memory: %s", self.address, err
            )
        except InferenceServerException as err:  # if it is gone, the call says so
            log.debug("triton %s: no memory: %s", self.address, err)
        return None

    def _forget_memory(self) -> None:
        if self._memory:
            self._memory.forget()
            self._memory = None

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
