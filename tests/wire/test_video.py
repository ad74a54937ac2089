"""Walks as video files, over a real connection; FFmpeg decodes them."""

import asyncio
import threading

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from stylewire import AsyncClient, Client, InvalidFieldError, OverloadedError, UnsupportedError, pb
from stylewire.cli.main import app
from stylewire.media import provenance
from stylewire.server.front.pipeline import video, video_encoder
from support.gates import TIMEOUT_SECONDS, held, replaced
from support.pictures import pixels
from support.refusals import refusal
from support.scrape import Scrape, wait_for
from support.servers import running_server
from support.videos import Decoded, psnr

CONTAINERS = {"mp4": pb.VideoConfig.CONTAINER_MP4, "webm": pb.VideoConfig.CONTAINER_WEBM}
BOTH = pytest.mark.parametrize("container", CONTAINERS)
LEAST_DB = 28
"""At 64 px, where colors at half the resolution cost most: without any loss but that, it would be 33."""


@pytest.fixture(scope="module")
def narrow_server():
    """A server of the demo models that makes one video at a time, and says nothing of its origin."""
    with running_server(max_videos=1, provenance=False) as server:
        yield server


def request(container="mp4", frame_count=40, seeds=(1, 2, 3), output=None, **fields) -> pb.InterpolateRequest:
    config = {name: fields.pop(name) for name in ("frame_rate", "quality", "bits_per_second") if name in fields}
    return pb.InterpolateRequest(
        keyframes=[pb.Latent(seed=seed) for seed in seeds],
        frame_count=frame_count,
        output_config=output,
        video=pb.VideoConfig(container=CONTAINERS[container], **config),
        **fields,
    )


def cancelled_count(scrape) -> float:
    return scrape.count("grpc_server_handled_total", grpc_method="Interpolate", grpc_code="CANCELLED")


def file_of(stub, asked) -> bytes:
    return b"".join(message.video_chunk for message in stub.Interpolate(asked))


@BOTH
def test_video_shows_the_frames_of_the_walk(demo, container):
    """Decoded, it has every frame, at its time, as like as its quality allows, in the right colors."""
    asked = request(container, frame_rate=24, looped=True)
    decoded = Decoded(file_of(demo, asked))
    asked.ClearField("video")
    frames = [pixels(message.image) for message in demo.Interpolate(asked)]
    worst = min(psnr(frame, other) for frame, other in zip(frames, decoded.frames, strict=True))
    drift = max(abs(time - index / 24) for index, time in enumerate(decoded.times))
    print(f"{container}: {worst:.1f} dB or more, times within {drift * 1000:.2f} ms")

    assert worst > LEAST_DB
    assert drift < (1e-6 if container == "mp4" else 0.001)
    assert 40 / 24 == pytest.approx(decoded.seconds, abs=0.001)


@BOTH
def test_loop_plays_on_without_a_jump(demo, container):
    """From the last frame of a looped video to its first it is no further than between others; it begins at time 0."""
    decoded = Decoded(file_of(demo, request(container, 48, looped=True, quality=95)))
    frames = decoded.frames.astype(float)
    steps = np.square(np.roll(frames, -1, axis=0) - frames).mean((1, 2, 3))

    assert 0 == decoded.times[0]
    assert steps[-1] <= 1.2 * steps[:-1].max()


@BOTH
def test_video_plays_before_it_is_whole(demo_server, demo, container):
    """Its first second has arrived, and can be decoded, while the last frames cannot have been made."""
    opened = threading.Event()
    made = []

    def stopped(run):
        def run_some(inputs, outputs, *, exclusive):
            made.append(len(next(iter(inputs.values()))))
            assert sum(made) <= 70 or opened.wait(TIMEOUT_SECONDS), "nobody opened the gate"
            return run(inputs, outputs, exclusive=exclusive)

        return run_some

    with replaced(demo_server, "synthesis", stopped):
        messages = demo.Interpolate(request(container, 120))
        first = b""
        for message in messages:
            first += message.video_chunk
            if message.frame_index > 30:
                break
        early, before = Decoded(first), opened.is_set()
        opened.set()
        rest = b"".join(message.video_chunk for message in messages)

    assert not before
    assert 30 <= len(early.frames) < 70
    assert 120 == len(Decoded(first + rest).frames)


@BOTH
def test_messages_tell_what_they_carry(demo, container, monkeypatch):
    """Every message has a piece below the limit, the media type, how far the walk is, and what it took."""
    monkeypatch.setattr(video, "PIECE_BYTES", 2000)
    messages = list(demo.Interpolate(request(container)))
    (mime_type,) = {message.video_mime_type for message in messages}
    indices = [message.frame_index for message in messages]

    assert {"mp4": 'video/mp4; codecs="avc1.64000a"', "webm": 'video/webm; codecs="vp9"'}[container] == mime_type
    assert all(1 <= len(message.video_chunk) <= 2000 for message in messages)
    assert 40 == len(Decoded(b"".join(message.video_chunk for message in messages)).frames)
    assert sorted(indices) == indices
    assert 39 == indices[-1]
    assert not any(message.HasField("image") or message.HasField("code") for message in messages)
    assert sum(message.timing.inference.ToNanoseconds() for message in messages) > 0
    assert sum(message.timing.encoding.ToNanoseconds() for message in messages) > 0
    assert all(message.batch.size > 0 for message in messages)


@BOTH
def test_same_request_gives_the_same_file(demo, container):
    """Nothing in a file is random, and no clock is in it."""
    asked = request(container, 20)

    assert file_of(demo, asked) == file_of(demo, asked)


@BOTH
def test_quality_and_bits_decide_the_size(demo, container):
    """More quality, or more bits a second, are more bytes and a picture nearer to the original."""
    sizes, likeness = [], []
    asked = [
        {"quality": 10},
        {"quality": 60},
        {"quality": 100},
        {"bits_per_second": 40_000},
        {"bits_per_second": 4_000_000},
    ]
    frames = [
        pixels(m.image) for m in demo.Interpolate(pb.InterpolateRequest(keyframes=request().keyframes, frame_count=40))
    ]
    for config in asked:
        content = file_of(demo, request(container, **config))
        sizes.append(len(content))
        decoded = Decoded(content).frames
        likeness.append(np.mean([psnr(frame, other) for frame, other in zip(frames, decoded, strict=True)]))
    print(f"{container}: " + ", ".join(f"{size} bytes {db:.1f} dB" for size, db in zip(sizes, likeness, strict=True)))

    for found in (sizes, likeness):
        assert found[0] < found[1] < found[2]
        assert found[3] < found[4]


def test_smaller_videos_are_possible(demo):
    """The size asked for is that of the video."""
    decoded = Decoded(file_of(demo, request(frame_count=2, output=pb.OutputConfig(resolution_px=18))))

    assert (2, 18, 18, 3) == decoded.frames.shape


@pytest.mark.parametrize("frame_rate", [1, 120, 29.97, 30000 / 1001])
def test_frame_rates_are_exact(demo, frame_rate):
    """Times do not drift, whole rates or not."""
    decoded = Decoded(file_of(demo, request(frame_count=5, frame_rate=frame_rate)))

    assert [index / frame_rate for index in range(5)] == pytest.approx(decoded.times, abs=1e-4)


def test_frames_are_encoded_off_the_event_loop(demo, monkeypatch):
    """The threads that encode pictures encode videos."""
    names = set()
    add = video_encoder.VideoWriter.add

    def noted(self, frame):
        names.add(threading.current_thread().name.rpartition("_")[0])
        return add(self, frame)

    monkeypatch.setattr(video_encoder.VideoWriter, "add", noted)
    file_of(demo, request())

    assert {"pictures"} == names


def test_slow_reader_bounds_the_work(demo_server):
    """While a reader takes nothing more, the server makes no more than its connection and the encoder hold."""
    before = Scrape(demo_server.metrics_url).count("stylewire_batch_size_sum", model="avatars", graph="synthesis")
    window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]
    with grpc.insecure_channel(demo_server.address, window) as channel:
        # A fragment for each frame.
        stream = pb.StyleGanServiceStub(channel).Interpolate(request(frame_count=3600, frame_rate=1, quality=100))
        next(stream)
        made: list[float] = []

        def same(scrape):
            made.append(scrape.count("stylewire_batch_size_sum", model="avatars", graph="synthesis"))
            return len(made) > 20 and len(set(made[-20:])) == 1

        wait_for(demo_server.metrics_url, same)
        stream.cancel()
    print(f"{made[-1] - before:.0f} of 3600 frames made for a reader of one piece")

    assert made[-1] - before < 250


def test_videos_at_once_are_limited(narrow_server):
    """One more than the limit is refused until another ends, also when its reader only leaves."""
    before = cancelled_count(Scrape(narrow_server.metrics_url))
    with narrow_server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        with held(narrow_server, "synthesis") as gate:
            stream = stub.Interpolate(request(frame_count=3600))
            gate.wait_for(batches=1)
            error = refusal(stub.Interpolate, request())
            stream.cancel()
            wait_for(narrow_server.metrics_url, lambda scrape: cancelled_count(scrape) > before)
            gate.open()

        assert OverloadedError is type(error)
        assert error.retry_after_seconds > 0
        assert file_of(stub, request(frame_count=3))


def test_video_that_is_left_while_it_is_encoded_ends(narrow_server, monkeypatch):
    """A reader that leaves during the encoding of a frame leaves nothing behind: the next video is made."""
    arrived, leave = threading.Event(), threading.Event()
    add = video_encoder.VideoWriter.add

    def slow(self, frame):
        arrived.set()
        assert leave.wait(TIMEOUT_SECONDS)
        return add(self, frame)

    before = cancelled_count(Scrape(narrow_server.metrics_url))
    with narrow_server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        monkeypatch.setattr(video_encoder.VideoWriter, "add", slow)
        stream = stub.Interpolate(request())
        assert arrived.wait(TIMEOUT_SECONDS)
        stream.cancel()
        leave.set()
        wait_for(narrow_server.metrics_url, lambda scrape: cancelled_count(scrape) > before)
        monkeypatch.undo()
        content = file_of(stub, request())

    assert 40 == len(Decoded(content).frames)


def test_server_without_the_extra_says_so(demo, monkeypatch):
    """Where PyAV is not installed, a video is UNSUPPORTED, and frames are not."""
    monkeypatch.setattr(video_encoder, "is_available", lambda: False)
    error = refusal(demo.Interpolate, request())
    asked = request(frame_count=2)
    asked.ClearField("video")

    assert UnsupportedError is type(error)
    assert "stylewire[video]" in error.message
    assert 2 == len(list(demo.Interpolate(asked)))


def test_missing_encoder_is_named(demo, monkeypatch):
    """A build of PyAV without the encoder gives UNSUPPORTED and the way out."""
    form = video_encoder._FORMS[video_encoder.jobs.Container.MP4]._replace(codec="libnone")
    monkeypatch.setitem(video_encoder._FORMS, video_encoder.jobs.Container.MP4, form)
    error = refusal(demo.Interpolate, request())

    assert UnsupportedError is type(error)
    assert "ask for WEBM" in error.message


@BOTH
def test_video_says_that_it_is_synthetic(demo, narrow_server, container):
    """It names model and walk; with --no-provenance it says nothing."""
    keyframes = [
        pb.Latent(seed=1, truncation=pb.Truncation(psi=0.5)),
        pb.Latent(seed=2, model="pixels"),
    ]
    asked = pb.InterpolateRequest(
        keyframes=keyframes, frame_count=2, looped=True, video=pb.VideoConfig(container=CONTAINERS[container])
    )
    (other,) = {
        m.model_digest
        for m in demo.Interpolate(pb.InterpolateRequest(model="pixels", keyframes=request().keyframes, frame_count=1))
    }
    messages = list(demo.Interpolate(asked))
    content = b"".join(message.video_chunk for message in messages)
    found = provenance.read(content)
    with narrow_server.channel() as channel:
        silent = file_of(pb.StyleGanServiceStub(channel), request(container, 2))

    assert (provenance.GENERATED, "avatars", messages[0].model_digest) == (
        found.source_type,
        found.model,
        found.model_digest,
    )
    assert f"2 frames, lerp, looped: seed 1, psi 0.5; seed 2 of {other}" == found.source
    assert provenance.GENERATED in Decoded(content).tags["comment"]
    assert provenance.read(silent) is None
    assert "comment" not in Decoded(silent).tags


@BOTH
def test_clients_save_and_read_videos(demo_server, tmp_path, container):
    """Both clients save the file that the pieces make; its suffix must be the container's."""

    def ask(client):
        return client.interpolate_video([1, 2], 20, container=container)

    async def ask_async():
        async with AsyncClient(demo_server.address) as client:
            path = await ask(client).save(tmp_path / f"b.{container}")
            return path, b"".join([piece async for piece in ask(client)])

    with Client(demo_server.address) as client:
        made = ask(client)
        path = made.save(tmp_path / f"a.{container}")
        joined = b"".join(ask(client))
        with pytest.raises(ValueError, match=f"does not end in .{container}"):
            ask(client).save(tmp_path / "a.avi")
    other_path, other_joined = asyncio.run(ask_async())

    assert 20 == len(Decoded(joined).frames)
    assert {joined} == {path.read_bytes(), other_path.read_bytes(), other_joined}
    assert (20, f"video/{container}") == (made.frames_made, made.mime_type.partition(";")[0])


def test_refused_video_leaves_no_file(demo_server, tmp_path):
    """The file is whole or absent, and an older one stays."""
    old = tmp_path / "a.mp4"
    old.write_bytes(b"old")
    with Client(demo_server.address) as client, pytest.raises(InvalidFieldError, match="frame_rate"):
        client.interpolate_video([1, 2], 20, frame_rate=1000).save(old)

    assert [(old, b"old")] == [(path, path.read_bytes()) for path in tmp_path.iterdir()]


@BOTH
def test_command_line_writes_videos(demo_server, tmp_path, container):
    """The suffix decides what is written, and ``inspect`` reads it."""
    out = tmp_path / f"walk.{container}"
    arguments = f"interpolate --seeds 1,2 --frames 10 --fps 10 --loop --out {out} --address {demo_server.address}"
    done = CliRunner().invoke(app, arguments.split(), catch_exceptions=False)
    decoded = Decoded(out.read_bytes())

    told = CliRunner().invoke(app, ["inspect", str(out)], catch_exceptions=False)

    assert (0, 0) == (done.exit_code, told.exit_code)
    assert f"wrote {out}\n" == done.stdout
    assert f"{out}: {container.upper()} 64 x 64 px, synthetic (trainedAlgorithmicMedia)" == told.stdout.splitlines()[0]
    assert (10, 1.0) == (len(decoded.frames), pytest.approx(decoded.seconds, abs=0.001))
