"""What the machine has, within the limits of a container."""

import os
import platform
import subprocess
import sys

import pytest

from stylewire.server.host import free_bytes, memory_limit_bytes, processor, resident_bytes, usable_cores

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


@pytest.mark.parametrize(("limit", "expected"), [("1000000\n", 1_000_000), ("max\n", None), (None, None)])
def test_memory_limit_is_that_of_the_cgroup_or_the_machine(tmp_path, limit, expected):
    """A container has what its cgroup allows, anybody else what the machine has."""
    if limit:
        (tmp_path / "memory.max").write_text(limit)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    assert (expected or machine) == memory_limit_bytes(tmp_path)


def test_process_and_processor_are_known():
    """The process has memory, and the processor has a name or flags."""
    assert 1 << 20 < resident_bytes() < 1 << 60
    assert processor()


def test_freed_memory_goes_back_to_the_system():
    """Small blocks that were freed below one that is in use stay resident, unless they are given back."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc is known to keep them, and to have a call that gives them back")
    script = """
import numpy as np
from stylewire.server.host import resident_bytes, trim_memory
blocks = [np.ones(4096, np.float64) for _ in range(6000)]  # 32 KB each, below the size that has pages of its own
last = np.ones(4096, np.float64)
del blocks
before = resident_bytes()
trim_memory()
print(before - resident_bytes())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    print(f"{int(done.stdout) / 1e6:.0f} MB came back")

    assert int(done.stdout) > 100e6
