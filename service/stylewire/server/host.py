"""Resources of the machine, within the limits of the container: cores, memory, kind of processor."""

import contextlib
import ctypes
import math
import os
import platform
from pathlib import Path

GROUP = Path("/sys/fs/cgroup")
"""The process's own cgroup, as a container with cgroup v2 sees it."""


def usable_cores(group: Path = GROUP) -> int:
    """Count the cores that this process may keep busy: its affinity, within the quota of its cgroup (``cpu.max``).

    More threads than the quota allows would all be stopped together for the rest of every period.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2
        pass
    return cores


def free_bytes(group: Path = GROUP) -> int:
    """Return the bytes that this process can still have: what the machine has left, within the limit of its cgroup."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
        free = next(int(line.split()[1]) * 1024 for line in meminfo.splitlines() if line.startswith("MemAvailable"))
        most = (group / "memory.max").read_text(encoding="ascii").strip()
        if most != "max":
            used = int((group / "memory.current").read_text(encoding="ascii"))
            free = min(free, max(0, int(most) - used))
    except (OSError, StopIteration):  # no Linux, or no cgroup v2: what is known has to do
        pass
    return free


def memory_limit_bytes(group: Path = GROUP) -> int:
    """Return the bytes that this process can have at most: the limit of its cgroup, or what the machine has."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        most = (group / "memory.max").read_text(encoding="ascii").strip()
    except OSError:  # no cgroup v2
        return limit
    return limit if most == "max" else min(limit, int(most))


def resident_bytes() -> int:
    """Return the resident bytes of this process; 0 where that is not known."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # no Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def trim_memory() -> None:
    """Return freed memory to the system: runtimes parse and repack weights, and glibc keeps the pages of that."""
    with contextlib.suppress(OSError, AttributeError):  # glibc has it, others have not
        ctypes.CDLL(None).malloc_trim(0)


def processor() -> str:
    """Return the processor's name and features, a line each."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
