"""What the figures were measured on: the processor, its units, the runtimes, and its speed in matrix products."""

import importlib.metadata
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16")
"""Units that decide which backend is fastest."""
PACKAGES = ("torch", "onnxruntime", "openvino", "ncnn", "numpy")
_SIDE, _TRIES = 2048, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the header of a table says.

    Attributes:
        processor: its name.
        flags: those of ``FLAGS`` that it has.
        threads: that every backend computes with.
        versions: package -> version, of those that are installed.
        peak_gflops: float32 operations a nanosecond of a large matrix product in PyTorch, the best of some.
    """

    processor: str
    flags: tuple[str, ...]
    threads: int
    versions: dict[str, str]
    peak_gflops: float

    def __str__(self) -> str:
        versions = ", ".join(f"{package} {version}" for package, version in self.versions.items())
        return (
            f"{self.processor} ({', '.join(self.flags) or 'none of the units that matter'}), {self.threads} threads; "
            f"matrix product {self.peak_gflops:.0f} GFLOP/s in float32\n{versions}"
        )


def machine(threads: int) -> Machine:
    """Look, and measure the peak, which takes a second or two."""
    name, flags = _processor()
    return Machine(
        processor=name, flags=flags, threads=threads, versions=_versions(), peak_gflops=_peak_gflops(threads)
    )


def _processor() -> tuple[str, tuple[str, ...]]:
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    fields = dict(line.replace("\t", "").split(":", 1) for line in reversed(info) if ":" in line)
    found = fields.get("flags", "").split()
    return fields.get("model name", platform.machine()).strip(), tuple(flag for flag in FLAGS if flag in found)


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # the table names the backend and the reason
    return versions


def _peak_gflops(threads: int) -> float:
    torch.set_num_threads(threads)
    left, right = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
    seconds = []
    for _ in range(_TRIES):
        started = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - started)
    return 2 * _SIDE**3 / min(seconds) / 1e9
