"""Graphs as TorchScript, run by PyTorch on the CPU or on CUDA."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from stylewire.errors import BackendUnavailableError
from stylewire.server.backends import Arrays, BackendOptions, graph_kind

_INPUTS = {
    "mapping": ("z", "label"),
    "synthesis": ("w_plus", "noise_strength", "noise"),
    "encoder": ("image",),
    "generator": ("z", "label"),
}
"""Graph kind -> its inputs, in the order in which a traced module takes them."""


class TorchScriptBackend:
    """One traced module."""

    name = "torchscript"
    precision = "fp32"
    slots, wide = 1, False  # PyTorch's thread pool serves one graph at a time

    def __init__(self, path: Path, outputs: Sequence[str], options: BackendOptions) -> None:
        if options.device.startswith("cuda") and not torch.cuda.is_available():
            raise BackendUnavailableError(
                f"this PyTorch finds no GPU for device {options.device!r}; --device cpu works"
            )
        torch.set_num_threads(options.threads)
        # The profiling executor compiles anew for every batch size it meets: seconds of latency for nothing gained.
        torch._C._jit_set_profiling_executor(False)  # noqa: SLF001 - no public name exists
        with warnings.catch_warnings():
            # PyTorch would rather have torch.export; TorchScript is what Triton and LibTorch load.
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            self._module: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=options.device)  # type: ignore[no-untyped-call]  # torch ships no types for it
        self.device = options.device
        taken = len(list(self._module.graph.inputs())) - 1  # the first is the module itself
        self.input_names = _INPUTS[graph_kind(path.stem)][:taken]
        self._outputs = tuple(outputs)

    def run(self, inputs: Arrays, outputs: Sequence[str], *, wide: bool = False) -> Arrays:  # noqa: ARG002
        """Run one batch; only the outputs asked for leave the device."""
        with torch.inference_mode():
            given = [torch.from_numpy(inputs[name]).to(self.device) for name in self.input_names]
            result = self._module(*given)
            values = dict(zip(self._outputs, result if isinstance(result, tuple) else (result,), strict=True))
            return {name: values[name].cpu().numpy() for name in outputs}

    def close(self) -> None:
        """Free the module."""
        del self._module
