"""Interpolate over a real connection."""

import itertools
import time

import grpc
import numpy as np
import pytest

from stylewire import DeadlineError, InvalidFieldError, latents, pb
from stylewire.keyframes import CubicPath, Easing, LinePath, frame_positions, segment
from stylewire.tensors import to_array, to_tensor
from support.gates import held
from support.pictures import avatar, worst_difference
from support.refusals import refusal
from support.scrape import Scrape, wait_for
from support.servers import ServerProcess

SEEDS = (1, 2, 3, 4, 5)
METHODS = {
    "lerp": pb.InterpolateRequest.METHOD_LERP,
    "slerp": pb.InterpolateRequest.METHOD_SLERP,
    "cubic": pb.InterpolateRequest.METHOD_CUBIC,
}
EASINGS = {
    Easing.LINEAR: pb.InterpolateRequest.EASING_LINEAR,
    Easing.EASE_IN: pb.InterpolateRequest.EASING_EASE_IN,
    Easing.EASE_OUT: pb.InterpolateRequest.EASING_EASE_OUT,
    Easing.EASE_IN_OUT: pb.InterpolateRequest.EASING_EASE_IN_OUT,
}


def request(frame_count=9, seeds=SEEDS, **fields) -> pb.InterpolateRequest:
    keyframes = [pb.Latent(seed=seed) for seed in seeds]
    return pb.InterpolateRequest(keyframes=keyframes, frame_count=frame_count, **fields)


def codes_of_seeds(stub, seeds=SEEDS) -> np.ndarray:
    reply = stub.Generate(pb.GenerateRequest(latents=[pb.Latent(seed=s) for s in seeds], return_codes=True))
    return np.stack([to_array(code) for code in reply.codes])


def codes_of_z(stub, z) -> np.ndarray:
    reply = stub.Generate(pb.GenerateRequest(latents=[pb.Latent(z=to_tensor(each)) for each in z], return_codes=True))
    return np.stack([to_array(code) for code in reply.codes])


def expected_codes(stub, method, positions, *, looped) -> np.ndarray:
    """The codes of all frames, by ``stylewire.keyframes`` and ``stylewire.latents``."""
    if method == "slerp":
        z = [latents.sample_z(seed, 16) for seed in SEEDS]
        places = [segment(position, len(SEEDS)) for position in positions]
        return codes_of_z(stub, [latents.slerp(z[start], z[stop], t) for start, stop, t in places])
    codes = codes_of_seeds(stub)
    path = CubicPath.through(codes, looped=looped) if method == "cubic" else LinePath(codes)
    return np.stack([path.at(position) for position in positions])


@pytest.mark.parametrize("looped", [False, True], ids=["open", "looped"])
@pytest.mark.parametrize("easing", EASINGS)
@pytest.mark.parametrize("method", METHODS)
def test_frames_lie_on_the_path(small, method, easing, looped):
    """The codes of the frames are those of the path through the keyframes' codes, for each method and easing."""
    asked = request(13, method=METHODS[method], easing=EASINGS[easing], looped=looped, return_codes=True)
    codes = np.stack([to_array(frame.code) for frame in small.Interpolate(asked)])
    positions = frame_positions(len(SEEDS), 13, looped, easing)

    assert np.allclose(expected_codes(small, method, positions, looped=looped), codes, atol=2e-5)


def test_frames_arrive_in_order(small):
    """Frame numbers run from 0 without a gap, however many are made at once."""
    frames = list(small.Interpolate(request(40)))

    assert list(range(40)) == [frame.frame_index for frame in frames]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_first_and_last_frame_are_the_keyframes(small, method):
    """Not looped, the walk begins with the picture of the first keyframe and ends with that of the last."""
    first, *_, last = small.Interpolate(request(method=method))
    ends = small.Generate(pb.GenerateRequest(latents=[pb.Latent(seed=SEEDS[0]), pb.Latent(seed=SEEDS[-1])])).images

    assert 1 >= worst_difference(ends, [first.image, last.image])


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_looped_walk_does_not_repeat_its_start(small, method):
    """Looped, frame 0 is the first keyframe, and every frames-per-keyframe-th frame is the next one."""
    frames = [frame.image for frame in small.Interpolate(request(10, method=method, looped=True))]
    keyframes = small.Generate(pb.GenerateRequest(latents=[pb.Latent(seed=seed) for seed in SEEDS])).images

    assert 1 >= worst_difference(keyframes, frames[::2])
    assert 1 < worst_difference(frames[:1], frames[-1:])


@pytest.mark.parametrize("easing", EASINGS)
@pytest.mark.parametrize("method", METHODS)
def test_loop_has_no_seam(demo, method, easing):
    """Whichever keyframe a looped walk begins with, it is the same circle: no place in it is the end."""
    fields = {"method": METHODS[method], "easing": EASINGS[easing], "looped": True, "return_codes": True}
    one, other = (
        np.stack([to_array(frame.code) for frame in demo.Interpolate(request(20, seeds=seeds, **fields))])
        for seeds in (SEEDS, SEEDS[1:] + SEEDS[:1])
    )

    assert np.allclose(np.roll(one, -20 // len(SEEDS), axis=0), other, atol=1e-3)


def test_unset_method_and_easing_are_lerp_and_linear(small):
    """The defaults are LERP and LINEAR."""
    plain = [frame.code for frame in small.Interpolate(request(return_codes=True))]
    asked = request(return_codes=True, method=METHODS["lerp"], easing=EASINGS[Easing.LINEAR])

    assert plain == [frame.code for frame in small.Interpolate(asked)]


def test_single_frame_is_the_first_keyframe(small):
    """A walk of one frame is possible and shows where it begins."""
    (frame,) = small.Interpolate(request(1))
    (expected,) = small.Generate(pb.GenerateRequest(latents=[pb.Latent(seed=SEEDS[0])])).images

    assert 1 >= worst_difference([expected], [frame.image])


def test_random_noise_is_the_same_in_all_frames(small):
    """Noise is drawn once for the walk: frames of one code are one picture."""
    noise = pb.Noise(mode=pb.Noise.MODE_RANDOM, seed=3)
    frames = [frame.image for frame in small.Interpolate(request(4, seeds=(1, 1), noise=noise))]

    assert 1 >= worst_difference(frames[:1] * 3, frames[1:])


def test_slerp_takes_truncation_and_labels_along(small):
    """Truncation and label go over linearly from one keyframe to the next."""
    ends = [
        pb.Latent(seed=1, class_index=0, truncation=pb.Truncation(psi=0.2)),
        pb.Latent(seed=1, class_index=2, truncation=pb.Truncation(psi=0.8)),
    ]
    asked = pb.InterpolateRequest(
        model="classes", keyframes=ends, frame_count=3, method=METHODS["slerp"], return_codes=True
    )
    _, middle, _ = (to_array(frame.code) for frame in small.Interpolate(asked))
    half = to_tensor(np.array([0.5, 0, 0.5, 0, 0], np.float32))
    latent = pb.Latent(seed=1, label=half, truncation=pb.Truncation(psi=0.5))
    reply = small.Generate(pb.GenerateRequest(model="classes", latents=[latent], return_codes=True))

    assert np.allclose(to_array(reply.codes[0]), middle, atol=1e-5)


@pytest.mark.parametrize("kind", ["w", "w_plus", "image"])
def test_slerp_needs_z(demo, kind):
    """A keyframe that has no z is named."""
    code = codes_of_seeds(demo, (1,))[0]
    given = {"w": to_tensor(code[0]), "w_plus": to_tensor(code), "image": pb.ImageSource(content=avatar())}
    keyframes = [pb.Latent(seed=1), pb.Latent(**{kind: given[kind]})]
    asked = pb.InterpolateRequest(keyframes=keyframes, frame_count=3, method=METHODS["slerp"])
    error = refusal(demo.Interpolate, asked)

    assert InvalidFieldError is type(error)
    assert ["keyframes[1].source"] == [violation.field for violation in error.violations]


def synthesis_rows(server) -> float:
    return Scrape(server.metrics_url).count("stylewire_batch_size_sum", model="plain", graph="synthesis")


def test_slow_reader_bounds_the_work(small_server):
    """While a reader has taken two frames of many, the server makes a few more than its connection holds."""
    before = synthesis_rows(small_server)
    # A window of 64 KiB holds five frames of 12 KiB; gRPC would let it grow to megabytes.
    window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]
    tensor = pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR)
    with grpc.insecure_channel(small_server.address, window) as channel:
        stream = pb.StyleGanServiceStub(channel).Interpolate(request(600, output_config=tensor))

        assert [0, 1] == [frame.frame_index for frame in itertools.islice(stream, 2)]
        made = settled(small_server) - before
        print(f"{made:.0f} of 600 frames made for a reader of 2")
        assert made <= 40
        stream.cancel()


def test_slow_reader_costs_no_memory(small_models):
    """Hundreds of frames that a slow reader has not asked for take no memory: the server waits for it."""
    server = ServerProcess(models=small_models / "plain")
    try:
        tensor = pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR)
        walk = request(3600, output_config=tensor)  # 44 MB
        with grpc.insecure_channel(server.address, [("grpc.http2.bdp_probe", 0)]) as channel:
            stream = pb.StyleGanServiceStub(channel).Interpolate(walk)
            resident = []
            for _ in itertools.islice(stream, 8):
                time.sleep(0.25)
                resident.append(server.resident_bytes())
            stream.cancel()
        grown = (max(resident[2:]) - resident[1]) / 1e6
        print(f"{grown:.1f} MB more while a reader took 8 of 3600 frames")
    finally:
        server.kill()

    assert grown < 8


def settled(server) -> float:
    """Scrape until many scrapes show the same work: the server waits for its reader."""
    last: list[float] = []

    def same(scrape):
        last.append(scrape.count("stylewire_batch_size_sum", model="plain", graph="synthesis"))
        return len(last) > 20 and len(set(last[-20:])) == 1

    wait_for(server.metrics_url, same)
    return last[-1]


def test_cancelling_frees_the_server(small_server, small):
    """A reader that leaves ends the work: its frames that waited are dropped, and no more are made."""
    one = pb.GenerateRequest(latents=[pb.Latent(seed=1)])
    with held(small_server, "synthesis", "plain") as gate:
        other = small.Generate.future(one)
        gate.wait_for(batches=1)
        stream = small.Interpolate(request(3600))
        gate.wait_for(waiting_rows=8)
        stream.cancel()
        cancelled = {"grpc_method": "Interpolate", "grpc_code": "CANCELLED"}
        wait_for(small_server.metrics_url, lambda s: s.count("grpc_server_handled_total", **cancelled) > 0)
        gate.open()
        other.result()
        small.Generate(one)

    assert [1, 1] == gate.sizes


def test_deadline_ends_the_walk(small_server, small):
    """A walk whose deadline passes ends with DEADLINE_EXCEEDED, and no more frames are made."""
    with held(small_server, "synthesis", "plain") as gate:
        error = refusal(small.Interpolate, request(3600), timeout=0.3)
        gate.open()
        small.Generate(pb.GenerateRequest(latents=[pb.Latent(seed=1)]))

    assert DeadlineError is type(error)
    assert 9 >= sum(gate.sizes)
