"""How batches are cut for CUDA graphs, and who may use the GPU while one is captured."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from stylewire.server.engine.backends.cuda_graphs import SIZES, CaptureLock, fill_rows, split_batch

# --- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row_count", "expected"),
    [
        (1, [1]),
        (3, [4]),
        (5, [4, 1]),
        (6, [8]),
        (9, [8, 1]),
        (11, [8, 4]),
        (23, [16, 8]),
        (24, [32]),
        (32, [32]),
        (33, [32, 1]),
        (70, [32, 32, 8]),
    ],
)
def test_batches_run_in_sizes_that_have_a_graph(row_count, expected):
    """A part is filled up where that costs little, else the largest full size runs first."""
    assert expected == [part.size for part in split_batch(row_count)]


@pytest.mark.parametrize("row_count", range(1, 100))
def test_parts_have_every_row_once(row_count):
    """No row is lost or runs twice, and no part grows by more than a third."""
    parts = split_batch(row_count)

    assert list(range(row_count)) == [row for part in parts for row in range(part.start, part.stop)]
    assert {part.size for part in parts} <= set(SIZES)
    assert all(3 * (part.size - (part.stop - part.start)) <= part.stop - part.start for part in parts)


def test_rows_are_filled_with_the_last_one():
    """What is added to a batch is a valid row, in memory without gaps."""
    filled = fill_rows(np.arange(12, dtype=np.float32).reshape(6, 2)[::2], 4)

    np.testing.assert_array_equal([[0, 1], [4, 5], [8, 9], [8, 9]], filled)
    assert filled.flags.c_contiguous


# --- who may use the GPU ---------------------------------------------------------------------------------------------


def test_capturing_is_done_alone():
    """A capture waits for those who use the GPU, and keeps out those who come later."""
    lock, order = CaptureLock(), []
    running, finish, wanted = threading.Event(), threading.Event(), threading.Event()

    def run_first():
        with lock.shared():
            running.set()
            finish.wait(10)
            order.append("first run ends")

    def capture():
        wanted.set()
        with lock.exclusive():
            order.append("capture")

    def run_later():
        with lock.shared():
            order.append("later run")

    with ThreadPoolExecutor(3) as pool:
        pool.submit(run_first)
        assert running.wait(10)
        pool.submit(capture)
        assert wanted.wait(10)
        while not lock.capturing:
            wanted.wait(0)  # lets the thread get there
        later = pool.submit(run_later)
        assert not later.done()
        finish.set()

    assert ["first run ends", "capture", "later run"] == order


def test_many_use_the_gpu_at_once():
    """Runs do not wait for one another."""
    lock, both = CaptureLock(), threading.Barrier(2, timeout=10)

    def run():
        with lock.shared():
            both.wait()

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(run), pool.submit(run)]:
            future.result()


def test_the_lock_opens_after_an_error():
    """A capture that fails lets the others go on."""
    lock = CaptureLock()
    with pytest.raises(RuntimeError, match="out of memory"), lock.exclusive():
        raise RuntimeError("out of memory")
    with lock.shared():
        pass
