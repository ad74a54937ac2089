"""Projections without a server: losses, schedule, the graph that gradients go through, backlog, messages."""

import asyncio
import os
import pickle
import signal

import numpy as np
import onnxruntime
import pytest
import torch

from stylewire.demo import MODELS
from stylewire.errors import BackendUnavailableError, ModelNotReadyError, UnsupportedError
from stylewire.manifest import Manifest
from stylewire.server.child_process import read_reply
from stylewire.server.engine.projection import losses
from stylewire.server.engine.projection.backlog import Backlog
from stylewire.server.engine.projection.networks import OnnxNetwork, read_network
from stylewire.server.engine.projection.optimizer import measure_spread, rate
from stylewire.server.engine.projection.process import WorkerProcess
from stylewire.server.engine.projection.tasks import Task
from stylewire.server.engine_api.projection import Progress, noise_sides

AVATARS = MODELS / "avatars"
CPU = torch.device("cpu")


def task(**fields) -> Task:
    """A task for the demo model, from its mean."""
    mean = np.load(AVATARS / "w_mean.npy")
    values = {
        "directory": str(AVATARS),
        "digest": Manifest.read(AVATARS).digest(),
        "start": np.tile(mean, (10, 1)),
        "encoded": False,
        "mean": mean,
        "target": np.zeros((3, 64, 64), np.float32),
        "step_count": 3,
    }
    return Task(**{**values, **fields})


# --- losses ----------------------------------------------------------------------------------------------------------


def test_pyramid_halves_down_to_the_smallest():
    """Sizes are halved until 4 px, and a picture of one color keeps it."""
    levels = losses.pyramid(torch.full((1, 3, 64, 64), 0.5))

    assert [64, 32, 16, 8, 4] == [level.shape[2] for level in levels]
    assert all(torch.allclose(torch.tensor(0.5), level) for level in levels)


def test_compare_finds_values_and_edges():
    """A shift of all values costs sqrt(d^2 + 0.05^2) - 0.05 and no edges; a shift of one pixel costs edges too."""
    black = torch.zeros(1, 3, 32, 32)
    other = black.clone()
    other[..., 16, 16] = 1
    same, shifted, spotted = (
        losses.compare(losses.pyramid(black), losses.pyramid(each)) for each in (black, black + 0.12, other)
    )

    assert (0, 0) == tuple(map(float, same))
    assert pytest.approx(0.13 - 0.05) == float(shifted.pixel)
    assert pytest.approx(0, abs=1e-6) == float(shifted.gradient)
    assert spotted.gradient > spotted.pixel > 0


def test_gradient_of_the_loss_is_right():
    """The derivatives agree with finite differences."""
    torch.manual_seed(0)
    target = losses.pyramid(torch.rand(1, 1, 8, 8, dtype=torch.float64))
    maps = torch.rand(1, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    picture = torch.rand(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda x: losses.compare(losses.pyramid(x), target), picture)
    assert torch.autograd.gradcheck(lambda x: losses.noise_correlation([x]), maps)


def test_spread_counts_rows_that_differ_and_their_mean():
    """A mapped code at the mean has none; a standard deviation away it is 1, in either way."""
    mean = torch.zeros(4)
    apart = torch.tensor([1.0, -1.0])[:, None].expand(2, 4) * 2  # rows at +2 and -2

    assert 0 == float(losses.code_spread(mean.expand(2, 4), mean, 2.0))
    assert 1 == float(losses.code_spread(mean.expand(2, 4) + 2, mean, 2.0))
    assert 1 == float(losses.code_spread(apart, mean, 2.0))


def test_noise_correlation_tells_pictures_from_noise():
    """A map of one value correlates wholly, on both axes and sizes: 2 + 2 * 4^2; drawn noise hardly does."""
    flat, drawn = torch.ones(1, 1, 16, 16), torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))

    assert 34 == float(losses.noise_correlation([flat]))
    assert float(losses.noise_correlation([drawn])) < 0.2


def test_rate_rises_and_falls():
    """The learning rate rises over the first twentieth, stays, and falls by a cosine over the last quarter."""
    assert [0.2, 1.0, 1.0] == [rate(step, 100) for step in (0, 4, 75)]
    assert pytest.approx(0.5) == rate(175, 200)
    assert rate(99, 100) < 0.01


# --- networks --------------------------------------------------------------------------------------------------------


def test_onnx_network_draws_what_onnxruntime_draws():
    """The graph, node by node in PyTorch, gives the picture of the runtime, with noise of every kind."""
    network = OnnxNetwork(AVATARS / "synthesis.onnx", "image", CPU)
    session = onnxruntime.InferenceSession(str(AVATARS / "synthesis.onnx"), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    inputs = {
        "w_plus": random.standard_normal((2, 10, 128), np.float32),
        "noise_strength": np.array([1, 0], np.float32),
        "noise": random.standard_normal((2, 10896), np.float32),
    }
    (expected,) = session.run(["image"], inputs)
    with torch.no_grad():
        image = network.run({name: torch.from_numpy(array) for name, array in inputs.items()}).numpy()
    print(f"largest difference {np.abs(expected - image).max():.1e}")

    assert np.allclose(expected, image, atol=1e-4)


def test_onnx_and_torchscript_have_the_same_gradients(small_models):
    """Both files of a model lead the code the same way."""
    gradients = []
    for files in ({"synthesis.onnx"}, {"synthesis.pt"}):
        network = read_network(small_models / "plain", "synthesis", files, "image", CPU)
        code = torch.ones(1, 8, 16, requires_grad=True)
        inputs = {"w_plus": code, "noise_strength": torch.ones(1), "noise": torch.zeros(1, 1)}
        network.run(inputs).square().sum().backward()
        gradients.append(code.grad)

    assert torch.count_nonzero(gradients[0]) > 0
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-4)


def test_model_without_a_float_graph_is_refused():
    """Where nothing can be read the error names the export that helps."""
    with pytest.raises(UnsupportedError, match="--formats torchscript"):
        read_network(AVATARS, "synthesis", {"synthesis.fp16.onnx"}, "image", CPU)


def test_spread_is_the_deviation_of_mapped_codes():
    """The spread is what numpy finds over codes of the mapping network."""
    mean = np.load(AVATARS / "w_mean.npy")
    mapping = OnnxNetwork(AVATARS / "mapping.onnx", "w", CPU)
    with torch.no_grad():
        w = mapping.run({"z": torch.randn(4000, 128, generator=torch.Generator().manual_seed(7))}).numpy()

    assert pytest.approx(np.sqrt(np.square(w - mean).mean()), rel=0.02) == measure_spread(mapping, mean, 128, 0, CPU)


def test_noise_sides_come_from_the_layers():
    """StyleGAN2 has a map a layer but the last, StyleGAN1 one a resolution; others are not guessed."""
    stylegan2, stylegan1 = (4, 8, 8, 16, 16, 16), (4, 4, 8, 8, 16, 16)

    assert (4, 8, 8, 16, 16) == noise_sides(stylegan2, 16 + 2 * 64 + 2 * 256)
    assert (4, 8, 16) == noise_sides(stylegan1, 16 + 64 + 256)
    assert () == noise_sides(stylegan2, 17)
    assert () == noise_sides(stylegan2, 0)


# --- the server's side -----------------------------------------------------------------------------------------------


def test_messages_come_back_from_the_pipe():
    """What is sent is read as it was: a task with its arrays, and progress with a code and without."""
    given = task(noise_sides_px=(4, 8), seed=2**63 - 1)
    steps = [
        Progress(step=1, loss=1, pixel=2, gradient=3, spread=4, correlation=5, distortion=6, code=code)
        for code in (None, given.start)
    ]
    found = pickle.loads(pickle.dumps(given))
    plain, shown = (read_reply(pickle.dumps(each), {(Progress.__module__, "Progress")}) for each in steps)

    assert (given.digest, given.noise_sides_px, given.seed) == (found.digest, found.noise_sides_px, found.seed)
    assert np.array_equal(given.target, found.target)
    assert None is plain.code
    assert np.array_equal(given.start, shown.code)


def test_backlog_learns_and_predicts():
    """A step's cost is learned; what waits counts when no place is free; an outlier counts for four."""
    backlog = Backlog(1)

    assert 0 == backlog.predict("a", 100)
    running = backlog.add("a", 10)

    assert None is running.stepped(0, 1.0)
    assert 2 == running.stepped(1, 3.0)
    assert pytest.approx(9 * 2 + 5 * 2) == backlog.predict("a", 5)
    waiting = backlog.add("a", 3)

    assert 1 == backlog.waiting
    assert pytest.approx(9 * 2 + 3 * 2) == backlog.predict("b", 5)
    assert pytest.approx(9 * 2) == backlog.next_end_seconds()
    backlog.remove(running)
    backlog.remove(waiting)
    backlog.learn("a", 1000.0)

    assert pytest.approx(2 + 0.2 * (4 * 2 - 2)) == backlog.predict("a", 1)


def test_process_outlives_wrong_models_but_not_a_hang(tmp_path):
    """A directory that is not the model any more is refused, and the next task is done; when the process then says
    nothing for too long it is killed, and its task fails with an error that may be retried.
    """

    async def ask():
        worker = WorkerProcess(device="cpu", threads=1, niceness=0, hang_seconds=60)
        errors = []
        for wrong in ({"digest": "sha256:another"}, {"directory": str(tmp_path)}):
            with pytest.raises(ModelNotReadyError, match="has just been replaced; retry") as caught:
                await worker.run(task(**wrong), lambda _: None)
            errors.append(caught.value)
        steps = []
        found = await worker.run(task(), steps.append)

        worker.hang_seconds = 3

        def stop(progress: Progress) -> None:
            os.kill(worker.pid, signal.SIGSTOP)

        with pytest.raises(BackendUnavailableError, match="hung") as caught:
            await worker.run(task(step_count=1000), stop)
        return [*errors, caught.value], steps, found, worker

    errors, steps, found, worker = asyncio.run(ask())

    assert [1] * 3 == [error.retry_after_seconds for error in errors]
    assert [0, 1, 2, 3] == [progress.step for progress in steps]
    assert (10, 128) == found.code.shape
    assert not worker.alive
