"""The forms in which a network runs: name -> what makes it for one batch size."""

import copy
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.gpu.limits import within
from models.gpu.subjects import Subject
from stylewire.errors import BackendUnavailableError
from stylewire.server.engine.backends import BackendOptions
from stylewire.server.engine.backends.onnxruntime.backend import OrtBackend, TensorRtBackend
from stylewire.server.engine.backends.torchscript import TorchScriptBackend
from stylewire_export.formats.half import half_form
from stylewire_export.formats.onnx import write_half_onnx, write_onnx

COMPILE_SECONDS = 150
WARM_UP_RUNS = 3


class SkippedError(Exception):
    """This form cannot be had here; the argument says why."""


class Runner(Protocol):
    """A form of a network, for one batch."""

    def launch(self, count: int) -> float:
        """Run some times; return the seconds until all have ended."""
        ...

    def result(self) -> np.ndarray:
        """Return the first output."""
        ...


class Workshop:
    """A network and what is made of it, once for all batch sizes.

    Args:
        subject: the network.
        device: ``cuda:0`` or ``cpu``.
        folder: for files.
    """

    def __init__(self, subject: Subject, device: str, folder: Path) -> None:
        self.subject, self.device, self.folder = subject, torch.device(device), folder
        self.cuda = device != "cpu"
        self.precision = "fp16" if self.cuda else "fp32"
        """Of the files for the server."""
        self._backends: dict[str, Any] = {}
        self._pool = torch.cuda.graph_pool_handle() if self.cuda else None

    @cached_property
    def official(self) -> nn.Module:
        """The published form."""
        return _place(self.subject.official().module, self.device, torch.float32)

    @cached_property
    def official_half(self) -> nn.Module:
        """The published form, all of it in half precision."""
        return _Half(_place(self.subject.official().module, self.device, torch.float16))

    @cached_property
    def scaled(self) -> nn.Module:
        """The exported form."""
        return copy.deepcopy(self.subject.graph.module).to(self.device)

    @cached_property
    def half(self) -> nn.Module:
        """The exported form in half precision."""
        made = half_form(self.subject.graph.module)
        assert made is not None
        return made.to(self.device)

    def tensors(self, batch: int) -> list[Tensor]:
        """The inputs of a batch, on the device."""
        return [torch.from_numpy(array).to(self.device) for array in self.subject.inputs(batch).values()]

    def run(self, module: nn.Module, batch: int, *, captured: bool = False) -> Runner:
        """Make what runs a module."""
        if not captured:
            return _Eager(module, self.tensors(batch))
        if not self.cuda:
            raise SkippedError("no GPU")
        return _Captured(module, self.tensors(batch), self._pool)

    def backend(self, kind: Callable[..., Any]) -> Any:
        """Open a backend of the server once."""
        if kind.name not in self._backends:
            if not self.cuda and kind is TensorRtBackend:
                raise SkippedError("no GPU")
            suffix = "pt" if kind is TorchScriptBackend else "onnx"
            name = f"{self.subject.graph.name}.{'fp16.' if self.cuda else ''}{suffix}"
            path = self.folder / self.subject.name.replace(" ", "") / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                (self._write_traced if suffix == "pt" else self._write_onnx)(path)
            try:
                self._backends[kind.name] = kind(
                    path, self.subject.graph.outputs, BackendOptions(device=str(self.device))
                )
            except BackendUnavailableError as err:
                raise SkippedError(str(err)) from err
        return self._backends[kind.name]

    def close(self) -> None:
        """Free all that is on the device."""
        for backend in self._backends.values():
            backend.close()
        self._backends.clear()
        for name in ("official", "official_half", "scaled", "half"):
            self.__dict__.pop(name, None)

    @property
    def _exported(self) -> nn.Module:
        return self.half if self.cuda else self.scaled

    def _write_traced(self, path: Path) -> None:
        """As the export does, but on the device: processors take minutes for half precision."""
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(self._exported, tuple(self.tensors(2)), check_trace=False)
            torch.jit.freeze(traced.eval()).save(str(path))

    def _write_onnx(self, path: Path) -> None:
        # Graphs leave training, which the exporter would else go back to, with all that is inside.
        module = _Mover(self._exported, self.device)
        graph = replace(self.subject.graph, module=module, examples=self.subject.inputs)
        (write_half_onnx if self.cuda else write_onnx)(graph, path)


def _place(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Move a module, with the tensors that the published form binds to its functions."""
    for part in module.to(device, dtype).modules():
        forward = part.forward
        if isinstance(forward, partial):
            args = [arg.to(device, dtype) if isinstance(arg, Tensor) else arg for arg in forward.args]
            part.forward = partial(forward.func, *args, **forward.keywords)  # type: ignore[method-assign]
    return module


class _Half(nn.Module):
    """A module in half precision, for inputs that are not."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*(each.half() for each in inputs))


class _Mover(nn.Module):
    """A module on the device, for inputs that are not there; a trace does not see the difference."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.module, self.device = module, device

    def forward(self, *inputs: Tensor) -> Any:
        return self.module(*(each.to(self.device) for each in inputs))


class _Eager:
    """A module as it is."""

    def __init__(self, module: nn.Module, inputs: list[Tensor]) -> None:
        self._module, self._inputs = module, inputs

    def launch(self, count: int) -> float:
        with torch.inference_mode():
            started = time.perf_counter()
            for _ in range(count):
                self._module(*self._inputs)
            _synchronize(self._inputs[0].device)
            return time.perf_counter() - started

    def result(self) -> np.ndarray:
        with torch.inference_mode():
            return _first(self._module(*self._inputs)).cpu().numpy()


class _Captured:
    """A module in a CUDA graph; all share their memory, so that a result is valid until another one runs."""

    def __init__(self, module: nn.Module, inputs: list[Tensor], pool: Any) -> None:
        self._inputs = inputs
        stream = torch.cuda.Stream()
        with torch.inference_mode():
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP_RUNS):
                    module(*inputs)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, pool=pool):
                self._output = _first(module(*inputs))

    def launch(self, count: int) -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(count):
            self._graph.replay()
        torch.cuda.synchronize()
        return time.perf_counter() - started

    def result(self) -> np.ndarray:
        self._graph.replay()
        return self._output.cpu().numpy()


class _Served:
    """A backend of the server: inputs from the processor's memory, the first output back to it."""

    def __init__(self, backend: Any, inputs: dict[str, np.ndarray], output: str) -> None:
        self._backend, self._inputs, self._outputs = backend, inputs, (output,)

    def launch(self, count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            self._backend.run(self._inputs, self._outputs)
        return time.perf_counter() - started

    def result(self) -> np.ndarray:
        found: np.ndarray = self._backend.run(self._inputs, self._outputs)[self._outputs[0]]
        return found


class _OnDevice(_Served):
    """A session of onnxruntime on CUDA, without the copies from and to the processor's memory."""

    def __init__(self, backend: Any, inputs: dict[str, np.ndarray], output: str) -> None:
        super().__init__(backend, inputs, output)
        self.result()
        # The bench looks inside the backend: what it does beside the run is what is left out here.
        self._session = backend._sessions._sessions[0]  # noqa: SLF001
        if not self._session._capturing:  # noqa: SLF001
            raise SkippedError("it cannot be captured; the log says why")
        batch = len(next(iter(inputs.values())))
        self._bound = self._session._buffers[batch]._bindings[self._outputs]  # noqa: SLF001

    def launch(self, count: int) -> float:
        return self._session._thread.submit(self._repeat, count).result()  # noqa: SLF001

    def _repeat(self, count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            self._session._usual.run_with_iobinding(*self._bound)  # noqa: SLF001 - returns when the GPU has ended
        return time.perf_counter() - started


def _compiled(shop: Workshop, batch: int) -> Runner:
    if not shop.cuda:
        raise SkippedError("no GPU")
    torch.compiler.reset()
    module = torch.compile(shop.half, mode="max-autotune-no-cudagraphs", dynamic=False)
    with within(COMPILE_SECONDS):
        return shop.run(module, batch, captured=True)


def _served(kind: Callable[..., Any]) -> Callable[[Workshop, int], Runner]:
    return lambda shop, batch: _Served(shop.backend(kind), shop.subject.inputs(batch), shop.subject.graph.outputs[0])


def _on_device(shop: Workshop, batch: int) -> Runner:
    if not shop.cuda:
        raise SkippedError("no GPU")
    return _OnDevice(shop.backend(OrtBackend), shop.subject.inputs(batch), shop.subject.graph.outputs[0])


def _half_only(make: Callable[[Workshop, int], Runner]) -> Callable[[Workshop, int], Runner]:
    def run(shop: Workshop, batch: int) -> Runner:
        if not shop.cuda:
            raise SkippedError("processors take minutes for half precision")
        return make(shop, batch)

    return run


REFERENCE = "official fp32"
FORMS: dict[str, Callable[[Workshop, int], Runner]] = {
    REFERENCE: lambda shop, batch: shop.run(shop.official, batch),
    "official fp16": _half_only(lambda shop, batch: shop.run(shop.official_half, batch)),
    "scaled fp32": lambda shop, batch: shop.run(shop.scaled, batch),
    "scaled fp32, graph": lambda shop, batch: shop.run(shop.scaled, batch, captured=True),
    "scaled fp16": _half_only(lambda shop, batch: shop.run(shop.half, batch)),
    "scaled fp16, graph": _half_only(lambda shop, batch: shop.run(shop.half, batch, captured=True)),
    "server, torchscript": _served(TorchScriptBackend),
}
"""Measured at every batch size."""
SLOW_FORMS: dict[str, Callable[[Workshop, int], Runner]] = {
    "onnxruntime, graph": _on_device,
    "server, onnxruntime": _served(OrtBackend),
    "server, tensorrt": _served(TensorRtBackend),
}
"""They search for algorithms or build engines, so that they are measured at a few sizes."""
COMPILED: dict[str, Callable[[Workshop, int], Runner]] = {
    "scaled fp16, graph": FORMS["scaled fp16, graph"],
    "compiled fp16, graph": _compiled,
}
"""Compiling takes minutes: measured last, at one size, against the form that is compiled."""


def _first(result: Any) -> Tensor:
    tensor: Tensor = result[0] if isinstance(result, tuple) else result
    return tensor


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
