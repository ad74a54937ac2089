"""Project, and Invert with refinement, over a real connection: what they find, and what they never hold up."""

import asyncio
import contextlib
import os
import signal
import sys
import time

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from stylewire import AsyncClient, Client, DeadlineError, OverloadedError, UnsupportedError, pb
from stylewire.cli.main import app
from stylewire.tensors import to_array
from support.pictures import avatar, pixels, worst_difference
from support.refusals import failure, refusal
from support.scrape import Scrape, wait_for
from support.servers import ServerProcess, running_server

PATIENT = 120
"""Seconds: PyTorch takes long to import on a busy machine."""


@pytest.fixture(scope="module")
def server():
    """A server of the demo models that runs one projection and lets one wait, at its own priority."""
    with running_server(projection_niceness=0, max_waiting_projections=1) as server:
        yield server


@pytest.fixture(scope="module")
def stub(server):
    with server.channel() as channel:
        yield pb.StyleGanServiceStub(channel)


@pytest.fixture(scope="module")
def small_projector(small_models):
    """A server of models with TorchScript files, without encoders."""
    settings = {"projection_niceness": 0, "grace_seconds": 0.1}
    with running_server(models=small_models, default_model="plain", **settings) as server:
        yield server


def request(**fields) -> pb.ProjectRequest:
    return pb.ProjectRequest(**{"image": pb.ImageSource(content=avatar(1)), "step_count": 4, **fields})


def project(stub, **fields) -> list[pb.ProjectResponse]:
    return list(stub.Project(request(**fields), timeout=PATIENT))


@contextlib.contextmanager
def endless(stub):
    """A projection that has begun and would take long."""
    call = stub.Project(request(step_count=1000))  # a deadline might be refused on a slow machine
    next(iter(call))
    try:
        yield call
    finally:
        call.cancel()


def test_project_comes_closer_step_by_step(stub):
    """Each step is told, the distortion falls, and Generate makes the reconstruction of the code."""
    *steps, last = project(stub, step_count=12)
    found = last.projection
    made = stub.Generate(pb.GenerateRequest(latents=[pb.Latent(w_plus=found.code)])).images
    target, drawn = (pixels(image).astype(float) / 127.5 for image in (found.target, found.reconstruction))
    print(f"distortion {found.start_distortion:.4f} -> {found.distortion:.4f}")

    assert [*range(13)] == [step.step for step in steps]
    assert found.distortion < 0.95 * found.start_distortion
    assert steps[-1].loss.total < steps[0].loss.total
    assert pytest.approx(found.start_distortion, rel=0.01) == steps[0].distortion
    assert pytest.approx(np.square(drawn - target).mean(), rel=1e-3) == found.distortion
    assert 1 >= worst_difference(made, [found.reconstruction])


def test_project_shows_pictures_at_the_interval(stub):
    """A picture comes with every so many steps, the first with step 0, and shows the code of that step."""
    *steps, last = project(stub, picture_interval=2)
    shown = {step.step: pixels(step.image) for step in steps if step.HasField("image")}
    start = project(stub, step_count=1)[-1].projection.start_distortion
    first = np.square((shown[0].astype(float) - pixels(last.projection.target)) / 127.5).mean()

    assert [0, 2, 4] == list(shown)
    assert pytest.approx(start, rel=1e-3) == first


def test_project_is_repeatable_from_its_seed(stub):
    """The same seed gives the same code from the mean; another seed another one."""
    codes = [project(stub, start="START_MEAN", seed=seed)[-1].projection.code.data for seed in (3, 3, 4)]

    assert codes[0] == codes[1]
    assert codes[0] != codes[2]


def test_project_optimizes_noise_that_generate_takes(stub):
    """Code and noise maps together make the reconstruction; without the maps the picture is another one."""
    found = project(stub, noise_optimized=True)[-1].projection
    latents, noise = [pb.Latent(w_plus=found.code)], pb.Noise(mode=pb.Noise.MODE_VALUES, values=found.noise)
    made = stub.Generate(pb.GenerateRequest(latents=latents, noise=noise)).images
    plain = stub.Generate(pb.GenerateRequest(latents=latents)).images

    assert (10896,) == to_array(found.noise).shape
    assert 1 >= worst_difference(made, [found.reconstruction])
    assert 1 < worst_difference(plain, [found.reconstruction])


def test_invert_refines_the_encoders_answer(stub):
    """Refinement brings the reconstruction closer; without it the answer is the encoder's."""
    image = pb.ImageSource(content=avatar(1))
    plain, refined = (
        stub.Invert(pb.InvertRequest(image=image, return_reconstruction=True, refine_step_count=count), timeout=PATIENT)
        for count in (0, 12)
    )
    print(f"distortion {plain.distortion:.4f} -> {refined.distortion:.4f}")

    assert refined.distortion < 0.95 * plain.distortion
    assert refined.timing.inference.ToNanoseconds() > plain.timing.inference.ToNanoseconds()


def test_model_without_an_encoder_starts_at_the_mean(stub):
    """A model that cannot invert can project; asked for its encoder it refuses."""
    found = project(stub, model="pixels", step_count=12)[-1].projection
    error = refusal(stub.Project, request(model="pixels", start="START_ENCODER"))

    assert found.distortion < 0.8 * found.start_distortion
    assert "no encoder" in error.message


def test_encoder_means_nothing_from_the_mean(stub):
    """A code that starts at the mean uses no encoder, so one that is named is refused."""
    named = pb.ImageSource(content=avatar(), encoder="encoder")
    error = refusal(stub.Project, request(image=named, start="START_MEAN"))

    assert ["image.encoder"] == [violation.field for violation in error.violations]


def test_calls_are_answered_while_one_projects(stub):
    """A projection in flight holds up no picture."""
    with endless(stub) as call:
        images = [stub.Generate(pb.GenerateRequest(latents=[pb.Latent(seed=seed)])).images for seed in range(5)]

        assert call.is_active()
    assert 5 == len(images)


def test_cancelled_projection_ends(server, stub):
    """When the caller leaves, the steps end, which the metrics show, and the next one finds the place free."""

    def cancelled(scrape):
        return scrape.count("stylewire_projections_total", result="cancelled")

    before = wait_for(server.metrics_url, lambda s: not s.count("stylewire_projections_running"), PATIENT)
    with endless(stub):
        during = Scrape(server.metrics_url)
    after = wait_for(server.metrics_url, lambda s: cancelled(s) == cancelled(before) + 1, PATIENT)
    steps = [scrape.count("stylewire_projection_steps_total") for scrape in (before, after)]

    assert 1 == during.count("stylewire_projections_running")
    assert 0 == after.count("stylewire_projections_running")
    assert 1000 > steps[1] - steps[0]
    assert 6 == len(project(stub))


def test_full_queue_is_refused(server, stub):
    """One runs, one waits, and a third is told to come back; when they have left, nothing waits."""
    with endless(stub):
        waiting = stub.Project(request())
        wait_for(server.metrics_url, lambda s: s.count("stylewire_projections_waiting") == 1, PATIENT)
        error = refusal(stub.Project, request())
        waiting.cancel()
        wait_for(server.metrics_url, lambda s: not s.count("stylewire_projections_waiting"), PATIENT)

    assert OverloadedError is type(error)
    assert error.retry_after_seconds >= 1
    assert Scrape(server.metrics_url).count("stylewire_projections_total", result="overloaded") >= 1


def test_what_cannot_be_in_time_is_refused_at_once(server, stub):
    """When the cost of a step is known, a deadline that cannot be met is refused by the server before any step."""
    project(stub)
    steps = Scrape(server.metrics_url).count("stylewire_projection_steps_total")
    error = refusal(stub.Project, request(step_count=1000), timeout=3)
    inverting = pb.InvertRequest(image=pb.ImageSource(content=avatar()), refine_step_count=1000)
    other = refusal(stub.Invert, inverting, timeout=3)

    assert DeadlineError is type(error) is type(other)
    assert "1000 steps would be done in" in error.message
    assert steps == Scrape(server.metrics_url).count("stylewire_projection_steps_total")


def test_killed_process_fails_one_projection_only(server, stub):
    """When the process is killed, its caller is told to try again, and the next projection gets a new process."""
    with endless(stub) as call:
        (worker,) = server.app.engine.projector.workers
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(grpc.RpcError) as caught:
            list(call)

    assert grpc.StatusCode.UNAVAILABLE is caught.value.code()
    assert "the projection's process ended by signal 9; retry" == caught.value.details()
    assert 6 == len(project(stub))


def test_client_projects(server, tmp_path):
    """The SDK gives the code, tells progress, and asks Invert to refine."""
    photo, told = tmp_path / "photo.png", []
    photo.write_bytes(avatar(1))
    with Client(server.address, timeout=PATIENT) as client:
        found = client.project(photo, steps=6, picture_interval=3, optimize_noise=True, on_progress=told.append)
        refined = client.invert(photo, refine_steps=6, return_reconstruction=True)

    assert [*range(7)] == [progress.step for progress in told]
    assert [0, 3, 6] == [progress.step for progress in told if progress.picture]
    assert (10, 128) == found.code.shape == refined.code.shape
    assert (10896,) == found.noise.shape
    assert found.distortion < found.start_distortion
    assert refined.distortion < told[0].distortion
    assert found.timing.inference_seconds > 0


def test_async_client_projects(server):
    """The client for asyncio does the same; an exception of the listener ends the call."""

    async def ask():
        def interrupt(progress):
            raise KeyError(progress.step)

        async with AsyncClient(server.address, timeout=3600) as client:
            found = await client.project(avatar(1), steps=2)
            with pytest.raises(KeyError, match="0"):
                await client.project(avatar(1), steps=1000, on_progress=interrupt)
            return found

    found = asyncio.run(ask())
    ended = wait_for(server.metrics_url, lambda s: not s.count("stylewire_projections_running"), PATIENT)

    assert (10, 128) == found.code.shape
    assert ended


def test_command_writes_code_and_pictures(server, tmp_path):
    """``stylewire project`` says what was gained and writes the code as NVIDIA's projector does."""
    photo = tmp_path / "photo.png"
    photo.write_bytes(avatar(1))
    words = ["project", str(photo), "--out", str(tmp_path / "out"), "--steps", "6", "--optimize-noise"]
    done = CliRunner().invoke(app, [*words, "--address", server.address])
    print(done.output)
    with np.load(tmp_path / "out" / "photo.npz") as arrays:
        shapes = {name: array.shape for name, array in arrays.items()}

    assert 0 == done.exit_code
    assert "in 6 steps" in done.output
    assert {"w": (1, 10, 128), "noise": (10896,)} == shapes
    assert {"photo.npz", "photo.png", "photo-target.png"} == {path.name for path in (tmp_path / "out").iterdir()}


def test_process_that_nobody_needs_is_ended(server, stub, monkeypatch):
    """PyTorch takes hundreds of megabytes, so its process goes when it has had nothing to do for a while."""
    monkeypatch.setattr("stylewire.server.engine.projection.projector.IDLE_SECONDS", 0)
    call = stub.Project(request(), timeout=PATIENT)
    next(iter(call))
    (worker,) = server.app.engine.projector.workers
    list(call)
    until = time.monotonic() + PATIENT
    while worker.alive:
        assert time.monotonic() < until
        time.sleep(0.02)

    assert 0 == worker.exit_code
    assert set() == server.app.engine.projector.workers


def test_torchscript_gives_the_gradients(small_projector):
    """Where there is a TorchScript file it is used: of a conditional model too."""
    with small_projector.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)
        for model in ("plain", "classes"):
            found = project(stub, model=model, step_count=8)[-1].projection

            assert found.distortion < found.start_distortion


def test_alpha_cannot_be_projected(small_projector):
    """A model that draws alpha is refused: no photo tells what it should be."""
    with small_projector.channel() as channel:
        error = refusal(pb.StyleGanServiceStub(channel).Project, request(model="rgba"))

    assert UnsupportedError is type(error)
    assert "alpha" in error.message


def test_server_that_stops_ends_its_projections(small_projector):
    """A projection that would outlast the grace ends with its process. The last test of this server."""
    with small_projector.channel() as channel:
        call = pb.StyleGanServiceStub(channel).Project(request(model="plain", step_count=1000))
        next(iter(call))
        (worker,) = small_projector.app.engine.projector.workers
        small_projector.call(small_projector.app.stop(0))
        code = failure(lambda _: call, None).code()

    assert worker.exit_code is not None
    assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def test_server_without_pytorch_refuses(tmp_path):
    """Without the packages of the extra, projections are refused with its name; everything else works."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    process = ServerProcess(environment={"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])})
    try:
        with grpc.insecure_channel(process.address) as channel:
            stub = pb.StyleGanServiceStub(channel)
            inverting = pb.InvertRequest(image=pb.ImageSource(content=avatar()))
            plain = stub.Invert(inverting)
            inverting.refine_step_count = 1
            errors = [refusal(stub.Project, request()), refusal(stub.Invert, inverting)]
    finally:
        process.kill()

    assert plain.HasField("code")
    assert [UnsupportedError] * 2 == [type(error) for error in errors]
    assert all("stylewire[torch]" in error.message and "(torch)" in error.message for error in errors)
