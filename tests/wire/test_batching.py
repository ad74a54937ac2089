"""What a picture is does not depend on who else is served."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from stylewire import pb
from stylewire.tensors import to_array
from support.gates import held, replaced
from support.pictures import avatar, pixels, worst_difference

CLIENTS = 12
NOISES = {
    "const": pb.Noise(),
    "none": pb.Noise(mode=pb.Noise.MODE_NONE),
    "random": pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=3),
}


def request(seed, count=1, **fields) -> pb.GenerateRequest:
    return pb.GenerateRequest(latents=[pb.Latent(seed=seed + k) for k in range(count)], **fields)


def together(server, calls):
    """Make calls at the same time, each by a client of its own thread; returns the replies in order."""
    barrier = Barrier(len(calls))

    def make(call):
        with server.channel() as channel:
            stub = pb.StyleGanServiceStub(channel)
            barrier.wait()
            return call(stub)

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(make, calls))


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_picture_is_the_same_alone_and_in_a_full_batch(demo_server, demo, noise):
    """A picture alone and in a batch of eight of other callers differ by one 8-bit level at most."""
    requests = [request(seed, noise=noise) for seed in range(9)]
    alone = [demo.Generate(each).images[0] for each in requests]
    with held(demo_server, "synthesis") as gate:
        first = demo.Generate.future(requests[0])
        gate.wait_for(batches=1)
        others = [demo.Generate.future(each) for each in requests[1:]]
        gate.wait_for(waiting_rows=8)
        gate.open()
        replies = [first.result(), *(other.result() for other in others)]
    worst = worst_difference(alone, [reply.images[0] for reply in replies])
    print(f"largest difference of alone and in a batch of 8: {worst} of 255")

    assert [1, 8] == gate.sizes
    assert [1] + [8] * 8 == [reply.batch.size for reply in replies]
    assert worst <= 1


def test_concurrent_callers_get_their_own_rows(demo_server, demo):
    """Callers with different numbers of latents, forms and calls, all at once, get what they get alone."""
    raw = pb.OutputConfig(format=pb.IMAGE_FORMAT_PIXELS)
    requests = [request(10 * k, count=1 + k % 5, output_config=raw if k % 2 else None) for k in range(CLIENTS)]
    alone = [demo.Generate(each).images for each in requests]
    replies = together(demo_server, [lambda stub, each=each: stub.Generate(each) for each in requests])

    for expected, reply in zip(alone, replies, strict=True):
        assert 1 >= worst_difference(expected, reply.images)


def test_codes_of_concurrent_callers_do_not_mix(demo_server, demo):
    """Mapping and encoder batch as well: each caller gets its own code."""
    photos = [pb.InvertRequest(image=pb.ImageSource(content=avatar(k))) for k in range(4)]
    seeds = [request(k, return_codes=True) for k in range(4)]
    alone = [demo.Invert(each).code for each in photos] + [demo.Generate(each).codes[0] for each in seeds]
    calls = [lambda stub, each=each: stub.Invert(each).code for each in photos]
    calls += [lambda stub, each=each: stub.Generate(each).codes[0] for each in seeds]

    for expected, code in zip(alone, together(demo_server, calls), strict=True):
        assert np.allclose(to_array(expected), to_array(code), atol=1e-4)


def test_models_side_by_side_stay_apart(small_server, small):
    """Calls of different models at once give each model's own picture."""
    names = ["plain", "twin", "rgba"] * 4
    alone = {name: small.Generate(request(1, model=name)).images for name in names}
    replies = together(small_server, [lambda stub, name=name: stub.Generate(request(1, model=name)) for name in names])

    for name, reply in zip(names, replies, strict=True):
        assert 1 >= worst_difference(alone[name], reply.images)
    assert 1 < worst_difference(alone["plain"], alone["twin"])


def test_different_noise_never_shares_a_batch_wrongly(demo_server, demo):
    """Stored, no and random noise at once: each caller gets its own kind."""
    requests = [request(5, noise=noise) for noise in NOISES.values()] * 3
    alone = [demo.Generate(each).images for each in requests]
    replies = together(demo_server, [lambda stub, each=each: stub.Generate(each) for each in requests])

    for expected, reply in zip(alone, replies, strict=True):
        assert 1 >= worst_difference(expected, reply.images)


def test_large_request_lets_small_ones_through(demo_server, demo):
    """Behind a request of 64 latents a small one takes part in the next batch, not in the ninth."""
    with held(demo_server, "synthesis") as gate:
        large = demo.Generate.future(request(0, 64))
        gate.wait_for(batches=1, waiting_rows=56)
        small = demo.Generate.future(request(1))
        gate.wait_for(waiting_rows=57)
        done = []
        small.add_done_callback(lambda _: done.append(len(gate.sizes)))
        gate.open()
        assert 64 == len(large.result().images)
        small.result()

    assert [8] * 8 + [1] == gate.sizes
    assert done[0] < 9


def test_cancelled_neighbor_changes_nothing(demo_server, demo):
    """Callers that leave, while they wait or while they run, do not touch the pictures of the others."""
    expected = [demo.Generate(request(seed)).images[0] for seed in range(8)]
    with held(demo_server, "synthesis") as gate:
        first = demo.Generate.future(request(99))
        gate.wait_for(batches=1)
        calls = [demo.Generate.future(request(seed)) for seed in range(8)]
        gate.wait_for(waiting_rows=8)
        for leaving in (first, *calls[::2]):
            leaving.cancel()
        gate.open()
        got = [call.result().images[0] for call in calls[1::2]]

    assert 1 >= worst_difference(expected[1::2], got)


def test_failed_batch_fails_its_own_callers_only(demo_server, demo):
    """A batch that fails is told to those in it; the next batch is well."""
    failing = [True]

    def failing_once(run):
        def fail_once(inputs, outputs, *, exclusive):
            if failing.pop() if failing else False:
                raise RuntimeError("out of memory")
            return run(inputs, outputs, exclusive=exclusive)

        return fail_once

    with replaced(demo_server, "synthesis", failing_once):
        failed = demo.Generate.future(request(1))
        assert "INTERNAL" == failed.exception().code().name
        assert (64, 64, 3) == pixels(demo.Generate(request(1)).images[0]).shape
