"""What the machine has, within the limits of a container."""

import os

import pytest

from stylewire.server.machine import free_bytes, processor, resident_bytes, usable_cores

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", CORES), ("50000 100000", 1), ("100000 100000", 1), ("9900000 100000", CORES), ("nonsense", CORES)],
)
def test_cores_are_those_of_the_quota(tmp_path, quota, cores):
    """A container with half a core or one core has one; a quota above the affinity, or none, changes nothing."""
    (tmp_path / "cpu.max").write_text(quota)

    assert cores == usable_cores(tmp_path)


def test_part_of_a_core_counts_as_one(tmp_path):
    """A quota of one and a half cores is worth two threads."""
    (tmp_path / "cpu.max").write_text("150000 100000")

    assert min(2, CORES) == usable_cores(tmp_path)


def test_cores_without_a_cgroup(tmp_path):
    """Where there is no cgroup v2, the affinity counts."""
    assert CORES == usable_cores(tmp_path)


def test_free_memory_is_within_the_cgroup(tmp_path):
    """A container has no more than its limit leaves."""
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")

    assert 600_000 == free_bytes(tmp_path)


@pytest.mark.parametrize("limit", ["max\n", None])
def test_free_memory_without_a_limit(tmp_path, limit):
    """Without a limit it is what the machine has left."""
    if limit:
        (tmp_path / "memory.max").write_text(limit)

    assert 1 << 20 < free_bytes(tmp_path) < 1 << 60


def test_process_and_processor_are_known():
    """The process has memory, and the processor has a name or flags."""
    assert 1 << 20 < resident_bytes() < 1 << 60
    assert processor()
