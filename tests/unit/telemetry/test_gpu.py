"""The metrics of a GPU, with a library of NVIDIA's that is not there."""

import logging
import sys
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from stylewire.server.telemetry.gpu import GpuCollector, watch_gpu
from support.nvml import FakeNvml


@pytest.fixture
def registry():
    return CollectorRegistry()


def shown(registry) -> dict[str, float]:
    return {
        f"{sample.name} {sample.labels['device']}": sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_device_shows_memory_and_load(registry):
    """Used and total memory and the load of the GPU are shown under the name that the settings give it."""
    watch_gpu(registry, "cuda", FakeNvml())

    assert {
        "stylewire_device_memory_used_bytes cuda:0": 3e9,
        "stylewire_device_memory_total_bytes cuda:0": 16e9,
        "stylewire_device_utilization_ratio cuda:0": 0.25,
    } == shown(registry)


def test_device_is_asked_at_every_scrape(registry):
    """What the driver says later is what a later scrape shows."""
    nvml = FakeNvml()
    watch_gpu(registry, "cuda:1", nvml)
    nvml.used = 5e9

    assert 5e9 == shown(registry)["stylewire_device_memory_used_bytes cuda:1"]


@pytest.mark.parametrize(
    ("device", "visible", "asked"),
    [
        ("cuda", None, 0),
        ("cuda:3", None, 3),
        ("cuda:1", "4,6", 6),
        ("cuda:1", "GPU-aa, GPU-bb", "GPU-bb"),
        ("cuda", "MIG-cc", "MIG-cc"),
        ("cuda:2", "4,6", 2),
        ("cuda", "", 0),
    ],
)
def test_device_is_the_one_that_cuda_means(device, visible, asked):
    """CUDA_VISIBLE_DEVICES numbers GPUs anew for CUDA; the driver is asked for the same one."""
    nvml = FakeNvml()
    GpuCollector.open(device, nvml, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})

    assert [asked] == nvml.asked


def test_what_the_driver_refuses_is_left_out(registry):
    """A MIG slice has no load of its own: its memory is shown, its load is not."""
    nvml = FakeNvml(refuses=("nvmlDeviceGetUtilizationRates",))
    watch_gpu(registry, "cuda", nvml)

    assert {"stylewire_device_memory_used_bytes cuda:0", "stylewire_device_memory_total_bytes cuda:0"} == set(
        shown(registry)
    )


def test_server_on_a_cpu_asks_nobody(registry):
    """On a CPU the library is not even opened."""
    nvml = FakeNvml()
    watch_gpu(registry, "cpu", nvml)

    assert {} == shown(registry)
    assert not nvml.opened


def test_missing_driver_is_a_warning(registry, caplog):
    """Without a driver the server starts, and says that it shows nothing of the GPU."""
    watch_gpu(registry, "cuda", FakeNvml(refuses=("nvmlInit",)))

    assert {} == shown(registry)
    assert "no metrics of cuda: nvmlInit is refused" in caplog.text


def test_missing_module_is_noted(registry, caplog, monkeypatch):
    """Without nvidia-ml-py the server starts, and notes that it shows nothing of the GPU."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with caplog.at_level(logging.INFO):
        watch_gpu(registry, "cuda")

    assert {} == shown(registry)
    assert "nvidia-ml-py is not installed" in caplog.text


def test_installed_module_is_found(registry, monkeypatch):
    """The module is found by itself where it is installed."""
    nvml = FakeNvml()
    names = ("NVMLError", *(name for name in dir(nvml) if name.startswith("nvml")))
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(**{name: getattr(nvml, name) for name in names}))
    watch_gpu(registry, "cuda")

    assert 3 == len(shown(registry))
