"""``generate_many``: any number of pictures over several calls at once."""

import asyncio
import contextlib
import itertools
import threading
import time

import pytest

from stylewire import (
    AsyncClient,
    Client,
    DrainingError,
    InvalidFieldError,
    OverloadedError,
    RateLimitedError,
    UnreachableError,
    noise,
)
from stylewire.testing import FakeServer


async def collected(address, latents, **options):
    async with AsyncClient(address) as client:
        return [result async for result in client.generate_many(latents, **options)]


def many(server, client, kind, **options):
    """Forty pictures by either client."""
    if kind == "sync":
        return list(client.generate_many(range(40), **options))
    return asyncio.run(collected(server.address, range(40), **options))


def seeds(results):
    return [result.seed for result in results]


def sizes(server):
    return [len(request.latents) for request in server.requests]


@pytest.mark.parametrize("options", [{}, {"window": 1, "batch": 1}, {"window": 9, "batch": 7}])
def test_many_pictures_arrive_in_order(server, client, options):
    """Both clients give one picture for each latent in their order, however they are cut into calls."""
    expected = list(range(50))

    assert expected == seeds(client.generate_many(range(50), **options))
    assert expected == seeds(asyncio.run(collected(server.address, iter(range(50)), **options)))


def test_many_pictures_are_those_of_one_call(demo_server):
    """Cutting changes nothing about the pictures, random noise included."""
    options = {"noise": noise("random", seed=3), "psi": 0.5, "return_codes": True, "format": "pixels"}
    with Client(demo_server.address) as client:
        once = client.generate(range(9), **options)
        cut = list(client.generate_many(range(9), batch=2, **options))

    for one, other in zip(once, cut, strict=True):
        assert abs(one.array.astype(int) - other.array).max() <= 1
        assert abs(one.code - other.code).max() < 1e-5


def test_latents_may_go_on_for_ever(server, client):
    """Of endless latents no more is read than the calls in flight take."""
    read = itertools.count()
    pictures = client.generate_many(read, window=3, batch=2)
    first = list(itertools.islice(pictures, 10))
    pictures.close()

    assert list(range(10)) == seeds(first)
    assert next(read) <= 10 + 3 * 2


def test_calls_in_flight_are_bounded(server, client):
    """No more calls are begun than ``window`` before the first is answered."""
    server.gate.clear()
    pictures = client.generate_many(range(100), window=3, batch=2)
    reader = threading.Thread(target=next, args=(pictures,))
    reader.start()
    assert server.arrived.wait(60)
    while len(server.requests) < 3:
        time.sleep(0.01)
    server.gate.set()
    reader.join(60)

    assert 3 == len(server.requests)
    pictures.close()


class Reluctant(FakeServer):
    """Answers the seed 0 when another has come; with others it waits until their caller has left."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.left = threading.Event(), threading.Event()

    def Generate(self, request, context):  # noqa: N802 - the name of the RPC
        if request.latents[0].seed:
            context.add_callback(self.left.set)
            self.begun.set()
            self.left.wait(60)
        else:
            self.begun.wait(60)
        return super().Generate(request, context)


def test_leaving_the_loop_cancels_what_is_in_flight():
    """Calls that nobody waits for any more do not stay on the server."""
    with Reluctant() as server, Client(server.address) as client:
        for first in client.generate_many(range(100)):
            assert 0 == first.seed
            break

        assert server.left.wait(30)


def test_leaving_the_async_loop_cancels_what_is_in_flight(server):
    """The same for asyncio: a task that is cancelled takes its calls with it."""

    async def story():
        async with AsyncClient(server.address) as client:
            task = asyncio.ensure_future(anext(client.generate_many(range(100))))
            await asyncio.to_thread(server.arrived.wait, 60)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return await asyncio.to_thread(server.ended.wait, 60)

    server.gate.clear()

    assert asyncio.run(story())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_lost_connection_is_resumed(server, client, kind):
    """A server that is killed and comes back costs nothing that was delivered, and nothing is delivered twice."""
    delivered = []

    def note(done, total):
        delivered.append(done)
        if done == 10:
            server.stop()
            threading.Timer(0.3, server.start).start()

    results = many(server, client, kind, batch=2, on_progress=note)
    asked = [latent.seed for request in server.requests for latent in request.latents]

    assert list(range(40)) == seeds(results)
    assert list(range(1, 41)) == delivered
    assert all(1 == asked.count(seed) for seed in range(10))


def test_patience_ends(client, server):
    """A server that does not come back is an error after the time that the caller gave."""
    server.stop()
    with pytest.raises(UnreachableError):
        list(client.generate_many(range(9), patience_seconds=0.5))


@pytest.mark.parametrize("error", [OverloadedError, RateLimitedError])
def test_full_server_slows_down_and_loses_nothing(server, client, error):
    """Refusals of a full server are waited for, more often than a single call would be."""
    server.fail_next(*[error("full", retry_after_seconds=0.01)] * 20)

    assert list(range(30)) == seeds(client.generate_many(range(30)))


def test_refusal_without_a_time_is_waited_for(server, client):
    """Where the server does not say when, the pauses grow by themselves."""
    server.fail_next(*[OverloadedError("full")] * 3, DrainingError("draining"))

    assert list(range(5)) == seeds(client.generate_many(range(5)))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_wrong_request_is_the_callers(server, client, kind):
    """What would fail again is raised where it comes in the order, after what came before."""
    server.fail_next(InvalidFieldError("no"))
    with pytest.raises(InvalidFieldError):
        many(server, client, kind, window=1)

    assert 1 == len(server.requests)


def test_progress_counts_pictures(client):
    """Each picture is told with the number of all, if there is one."""
    told = []
    list(client.generate_many([5, 6], on_progress=lambda done, total: told.append((done, total))))
    list(client.generate_many(iter([7]), on_progress=lambda done, total: told.append((done, total))))

    assert [(1, 2), (2, 2), (1, None)] == told


def test_random_noise_goes_on_over_calls(server, client):
    """Picture k has the noise that it would have in one call."""
    list(client.generate_many(range(6), batch=2, window=1, noise=noise("random", seed=5)))

    assert [5, 7, 9] == [request.noise.seed for request in server.requests]


def test_calls_grow_while_answers_are_quick(server, client):
    """Without a given size calls begin with one latent and grow to 16."""
    list(client.generate_many(range(200), window=1))

    assert [1, 2, 4, 8, 16, 16] == sizes(server)[:6]


def test_large_pictures_make_small_calls(server, client):
    """An answer has no more than 16 MB where its size is the SDK's to choose."""
    server.size_px = 1500  # 6.75 MB as pixels
    list(client.generate_many(range(8), window=1, format="pixels"))

    assert [1, 2, 2, 2, 1] == sizes(server)


@pytest.mark.parametrize("options", [{"window": 0}, {"batch": 0}, {"format": "gif"}])
def test_wrong_options_are_told(server, client, options):
    """What no call can take is refused."""
    with pytest.raises(ValueError, match=r"window|batch|format"):
        list(client.generate_many([1], **options))
    assert [] == server.requests
