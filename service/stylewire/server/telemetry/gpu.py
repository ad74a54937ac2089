"""Memory and load of the GPU in use, read from NVIDIA's management library (NVML) where that is installed."""

import importlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, Self

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)


class Nvml(Protocol):
    """The used part of the module ``pynvml`` from the package nvidia-ml-py, which ships no types."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None:  # noqa: N802 - NVIDIA's names
        """Open the library of the driver."""
        ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        """Find a GPU by its number."""
        ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:  # noqa: N802
        """Find a GPU, or a MIG slice of one, by its name."""
        ...

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        """Read ``used`` and ``total`` bytes."""
        ...

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:  # noqa: N802
        """Read ``gpu``, the percentage of the last second or so in which something ran."""
        ...


class GpuCollector(Collector):
    """Reads the driver at each scrape.

    Args:
        device: as in the settings, such as ``cuda:0``; the label.
        nvml: the module.
        handle: of the GPU.
    """

    def __init__(self, device: str, nvml: Nvml, handle: Any) -> None:
        self._device, self._nvml, self._handle = device, nvml, handle

    @classmethod
    def open(cls, device: str, nvml: Nvml, environment: Mapping[str, str] = os.environ) -> Self:
        """Find the GPU that CUDA calls by this name.

        Args:
            device: such as ``cuda`` or ``cuda:1``.
            nvml: the module.
            environment: may have CUDA_VISIBLE_DEVICES, which numbers the GPUs anew for CUDA but not for NVML.

        Raises:
            nvml.NVMLError: there is no driver, or it has no such GPU.
        """
        nvml.nvmlInit()
        number = int(device.partition(":")[2] or 0)
        visible = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",")]
        name = visible[number] if number < len(visible) and visible[number] else str(number)
        by_name = nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)
        return cls(f"cuda:{number}", nvml, by_name)

    def collect(self) -> Iterable[Metric]:
        """Yield what the driver reports; what it refuses, such as the load of a MIG slice, is left out."""
        memory = self._read(self._nvml.nvmlDeviceGetMemoryInfo)
        if memory is not None:
            yield self._gauge("memory_used_bytes", "Memory of the GPU in use, by this process and others.", memory.used)
            yield self._gauge("memory_total_bytes", "Memory of the GPU.", memory.total)
        rates = self._read(self._nvml.nvmlDeviceGetUtilizationRates)
        if rates is not None:
            yield self._gauge("utilization_ratio", "Share of time in which the GPU ran something.", rates.gpu / 100)

    def _read(self, read: Callable[[Any], Any]) -> Any:
        try:
            return read(self._handle)
        except self._nvml.NVMLError:
            return None

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"stylewire_device_{name}", text, labels=("device",))
        family.add_metric((self._device,), value)
        return family


def watch_gpu(registry: CollectorRegistry, device: str, nvml: Nvml | None = None) -> None:
    """Register metrics of a GPU; without the GPU, the module or the driver there are none.

    Args:
        registry: gets the metrics.
        device: as in the settings, such as ``cuda:0``.
        nvml: the module; None imports it if it is installed.
    """
    if device == "cpu":
        return
    try:
        nvml = nvml or importlib.import_module("pynvml")
    except ImportError:
        log.info("no metrics of %s: nvidia-ml-py is not installed", device)
        return
    try:
        registry.register(GpuCollector.open(device, nvml))
    except nvml.NVMLError as err:
        log.warning("no metrics of %s: %s", device, err)
