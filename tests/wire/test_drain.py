"""The end under load: two hundred calls of all kinds, a signal, and not one that was accepted is lost."""

import asyncio
import contextlib
import signal
from dataclasses import dataclass, field

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stylewire import pb
from stylewire.demo import MODELS
from support.pictures import avatar
from support.refusals import failure
from support.scrape import wait_for
from support.servers import ServerProcess

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
CONNECTIONS, CALLS, LATE_CALLS = 8, 200, 20
FRAMES = 12
PAUSE_SECONDS = 0.02  # of a client that asks again and again; without it, it would take the processor from the others
LATENTS = [pb.Latent(seed=seed) for seed in range(12)]
OWN = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]  # a retry would hide a call that was lost


class Connection:
    """A connection of its own, with calls of all kinds."""

    def __init__(self, address) -> None:
        self.channel = grpc.aio.insecure_channel(address, OWN)
        self._stylegan, self._models = pb.StyleGanServiceStub(self.channel), pb.ModelServiceStub(self.channel)

    async def call(self, number) -> int:
        """Make the call of this number; gives how many pictures came."""
        output = pb.OutputConfig(format=1 + number % 5)
        match number % 5:
            case 0:
                request = pb.MixStylesRequest(
                    content=LATENTS[0], styles=[pb.StyleSource(latent=LATENTS[1])], output_config=output
                )
                return int((await self._stylegan.MixStyles(request)).HasField("image"))
            case 1:
                request = pb.InvertRequest(
                    image=pb.ImageSource(content=avatar(number % 16)), return_reconstruction=True
                )
                return int((await self._stylegan.Invert(request)).HasField("reconstruction"))
            case 2 | 3:
                request = pb.InterpolateRequest(keyframes=LATENTS[:2], frame_count=FRAMES, output_config=output)
                return len([frame async for frame in self._stylegan.Interpolate(request)])
            case _:
                request = pb.GenerateRequest(latents=LATENTS, output_config=output)
                return len((await self._stylegan.Generate(request)).images)

    async def call_until_refused(self) -> grpc.RpcError:
        """Ask something small again and again."""
        while True:
            try:
                await self._models.GetModel(pb.GetModelRequest())
            except grpc.RpcError as err:
                return err
            await asyncio.sleep(PAUSE_SECONDS)

    async def watch(self) -> grpc.aio.UnaryStreamCall:
        """Watch health; gives the stream when the server has said SERVING."""
        stream = health_pb2_grpc.HealthStub(self.channel).Watch(
            health_pb2.HealthCheckRequest(service=pb.STYLEGAN_SERVICE)
        )
        assert SERVING == (await stream.read()).status
        return stream


EXPECTED = [1, 1, FRAMES, FRAMES, len(LATENTS)]
"""Pictures of a call, by its number modulo 5."""


@dataclass
class Story:
    """What clients saw of a server's end.

    Attributes:
        in_flight: calls without an answer when the signal was sent.
        told: what the watchers heard next.
        refused_before: calls that were refused when all watchers had heard.
        made: pictures of the calls begun before the signal, and during the drain.
        refusals: the first refusal on each connection.
    """

    in_flight: int = 0
    told: list[int] = field(default_factory=list)
    refused_before: int = 0
    made: list[int] = field(default_factory=list)
    made_late: list[int] = field(default_factory=list)
    refusals: list[grpc.RpcError] = field(default_factory=list)


async def story_of(server) -> Story:
    story = Story()
    connections = [Connection(server.address) for _ in range(CONNECTIONS)]
    watches = [await each.watch() for each in connections]
    probes = [asyncio.create_task(each.call_until_refused()) for each in connections]
    calls = [asyncio.create_task(connections[n % CONNECTIONS].call(n)) for n in range(CALLS)]
    await asyncio.to_thread(wait_for, server.metrics_url, all_have_begun)
    story.in_flight = sum(not each.done() for each in calls)
    server.process.send_signal(signal.SIGTERM)
    story.told = [(await each.read()).status for each in watches]
    story.refused_before = sum(each.done() for each in probes)
    late = [asyncio.create_task(connections[n % CONNECTIONS].call(n)) for n in range(LATE_CALLS)]
    story.made, story.made_late = await asyncio.gather(*calls), await asyncio.gather(*late)
    story.refusals = await asyncio.gather(*probes)
    for each in connections:
        await each.channel.close()
    return story


def all_have_begun(scrape) -> bool:
    return scrape.count("grpc_server_started_total", grpc_service=pb.STYLEGAN_SERVICE) == CALLS


@pytest.mark.parametrize("workers", [1, 2])
def test_no_accepted_call_is_lost(workers):
    """SIGTERM with 200 calls in flight loses none of them, and none that is begun during the drain.

    Readiness flips before anything is refused, later calls are UNAVAILABLE, and the exit code is 0.
    """
    server = ServerProcess(
        "--drain-seconds", "1.5", "--max-queue-seconds", "600", "--workers", str(workers), models=MODELS / "avatars"
    )
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(server.kill)
        story = asyncio.run(story_of(server))
        code, log = server.wait()
        with grpc.insecure_channel(server.address) as channel:
            after = failure(pb.ModelServiceStub(channel).GetModel, pb.GetModelRequest())

    assert story.in_flight > CALLS // 10  # on fast machines many have ended when the last begins
    assert [NOT_SERVING] * CONNECTIONS == story.told
    assert 0 == story.refused_before
    assert [EXPECTED[n % 5] for n in range(CALLS)] == story.made
    assert [EXPECTED[n % 5] for n in range(LATE_CALLS)] == story.made_late
    assert {grpc.StatusCode.UNAVAILABLE} == {each.code() for each in story.refusals}
    assert grpc.StatusCode.UNAVAILABLE == after.code()
    assert 0 == code, log
    assert "Traceback" not in log, log
