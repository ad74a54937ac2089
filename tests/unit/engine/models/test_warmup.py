"""Warming up a graph: its self-check, and which batches it can run."""

import time

import numpy as np
import pytest

from stylewire.manifest import ManifestError
from stylewire.server.engine.backends.selfcheck import check, read_vectors
from stylewire.server.engine.models import warmup
from stylewire.server.engine.models.warmup import SizeLimits, warm_up
from support.fakes import FakeBackend, FakeClock

X = np.arange(6, dtype=np.float32).reshape(2, 3)
UNLIMITED = 1 << 50


def vectors(**changes):
    return {"synthesis.in.x": X, "synthesis.out.image": X * 2} | changes


def warm(backend, *, most=8, seconds=1e9, most_bytes=UNLIMITED):
    return warm_up("fake.synthesis", "synthesis", backend, vectors(), SizeLimits(most, seconds, most_bytes))


def test_check_passes_what_the_export_stored():
    """Equal outputs pass; where there are exclusive batches all rows are checked, in an instance one of them."""
    backend = FakeBackend(exclusive=True)
    check("fake.synthesis", "synthesis", backend, vectors())

    assert ([1], [2]) == (backend.sizes, backend.exclusive_sizes)


@pytest.mark.parametrize("wrong", [X * 2 + 0.01, np.full_like(X, np.nan)])
def test_check_refuses_other_outputs(wrong):
    """An output that differs by more than the tolerance, or is NaN, says so by name."""
    with pytest.raises(ManifestError, match=r"fake\.synthesis: image differs from the export"):
        check("fake.synthesis", "synthesis", FakeBackend(), vectors(**{"synthesis.out.image": wrong}))


def test_check_needs_vectors():
    """A graph without stored vectors is not ready."""
    with pytest.raises(ManifestError, match=r"no vectors for fake\.encoder"):
        check("fake.encoder", "encoder", FakeBackend(), vectors())


def test_vectors_are_read_without_unpickling(tmp_path):
    """The file of vectors holds arrays only; a pickled object in it is refused."""
    np.savez(tmp_path / "good.npz", **vectors())
    np.savez(tmp_path / "evil.npz", x=np.array([print], dtype=object))

    assert vectors().keys() == read_vectors(tmp_path / "good.npz").keys()
    with pytest.raises(ValueError, match="allow_pickle"):
        read_vectors(tmp_path / "evil.npz")


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_all_sizes_in_use_run(most, sizes):
    """Every power of two up to the largest batch, and that one, runs twice: to allocate, and to be timed."""
    backend = FakeBackend()
    learned = warm(backend, most=most)

    assert [size for size in sizes for _ in range(2)] == backend.sizes
    assert sizes == [size for size, _ in learned.runs]
    assert most == learned.max_batch_size
    assert all(seconds >= 0 for _, seconds in learned.runs)
    assert [] == learned.exclusive_runs


def test_exclusive_batches_run_too():
    """Where a batch can have the whole device, its cost is learned as well."""
    backend = FakeBackend(exclusive=True)
    learned = warm(backend, most=4)

    assert [1, 1, 2, 2, 4, 4] == backend.exclusive_sizes
    assert [1, 2, 4] == [size for size, _ in learned.exclusive_runs]


@pytest.mark.parametrize("fails", [{"most": 4}, {"most_exclusive": 4, "exclusive": True}])
def test_size_that_fails_is_not_used(fails, caplog):
    """When memory is too short for a size, the one before it is the largest, and the log says so."""
    learned = warm(FakeBackend(**fails), most=16)

    assert 4 == learned.max_batch_size
    assert [1, 2, 4] == [size for size, _ in learned.runs]
    assert "8 rows at once fail, so the largest batch has 4" in caplog.text


def test_graph_that_runs_no_row_fails():
    """A graph that cannot run one row is no graph to serve."""
    with pytest.raises(MemoryError):
        warm(FakeBackend(most=0))


@pytest.mark.parametrize(("instances", "largest"), [(1, 4), (2, 2)])
def test_memory_limits_the_batch(instances, largest, caplog, monkeypatch):
    """With 64 kB a row and 300 kB for all instances, batches stop growing before they need more."""
    backend = FakeBackend(row_bytes=64 << 10, instances=instances)
    monkeypatch.setattr(warmup, "resident_bytes", lambda: len(backend.kept))  # of this process, others take some too
    learned = warm(backend, most=16, most_bytes=300 << 10)

    assert largest == learned.max_batch_size
    assert f"the largest batch has {largest} rows" in caplog.text


NOISY = np.where(np.arange(6).reshape(2, 3) % 2, X * 2, X * 2 + 0.02)
"""0.1 % of the range off, mean square: 55 dB."""


@pytest.mark.parametrize(("expected", "passes"), [(NOISY, True), (X * 2 + 0.2, False)])
def test_other_arithmetic_has_other_bounds(expected, passes):
    """What a backend runs in bf16 has to stay above 50 dB; in float32 the same error would be refused."""
    backend = FakeBackend()
    backend.precision = "bf16"

    stored = vectors(**{"synthesis.out.image": expected})
    if passes:
        check("fake.synthesis", "synthesis", backend, stored)
    else:
        with pytest.raises(ManifestError, match="image differs"):
            check("fake.synthesis", "synthesis", backend, stored)
    with pytest.raises(ManifestError, match="image differs"):
        check("fake.synthesis", "synthesis", FakeBackend(), stored)


@pytest.mark.parametrize(
    ("off", "precision", "passes"), [(1, "fp32", True), (2, "fp32", False), (3, "bf16", True), (4, "bf16", False)]
)
def test_pixels_are_judged_by_levels(off, precision, passes):
    """Pixels may be off by one level in float32 and by three in another arithmetic."""

    class Pixels(FakeBackend):
        def run(self, inputs, outputs, *, exclusive=False):
            return {"pixels": np.full((2, 3), 100, np.uint8)}

    backend = Pixels()
    backend.precision = precision
    stored = {"synthesis.in.x": X, "synthesis.out.pixels": np.full((2, 3), 100 + off, np.uint8)}
    if passes:
        check("fake.synthesis", "synthesis", backend, stored)
    else:
        with pytest.raises(ManifestError, match="pixels differs"):
            check("fake.synthesis", "synthesis", backend, stored)


def test_sizes_that_take_too_long_are_not_tried(monkeypatch):
    """A start does not wait for batches that the limit of time would never let run; a row always does."""
    clock = FakeClock()
    monkeypatch.setattr(warmup, "monotonic", clock)

    class Slow(FakeBackend):
        def run(self, inputs, outputs, *, exclusive=False):
            clock.now += 0.02 * len(inputs["x"])
            return super().run(inputs, outputs, exclusive=exclusive)

    assert 2 == warm(Slow(), most=64, seconds=0.07).max_batch_size
    assert 1 == warm(Slow(), most=64, seconds=0.001).max_batch_size


def test_long_runs_are_not_repeated():
    """A run of more than a tenth of a second is timed at once: another would only make the start longer."""

    class Slow(FakeBackend):
        def run(self, inputs, outputs, *, exclusive=False):
            time.sleep(0.11)
            return super().run(inputs, outputs, exclusive=exclusive)

    backend = Slow()
    ((size, seconds),) = warm(backend, most=1).runs

    assert [1] == backend.sizes
    assert 1 == size
    assert seconds > 0.1
