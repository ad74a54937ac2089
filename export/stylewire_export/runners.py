"""Graph files opened in their runtimes on the CPU, for verification: all use the graph's own names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from stylewire.latents import Array
from stylewire_export.errors import VerificationError, quote
from stylewire_export.formats.ncnn import PARAM, weights_of
from stylewire_export.formats.torchscript import torchscript_allowed
from stylewire_export.graphs import run_module

AnyArray = NDArray[np.generic]
Run = Callable[[Mapping[str, Array]], dict[str, AnyArray]]


def open_graph_file(path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Run:
    """Open an ONNX, TorchScript or ncnn file on the CPU.

    Raises:
        VerificationError: an ONNX file has other inputs or outputs, or a fixed batch size; an ncnn file is damaged.
    """
    if path.name.endswith(PARAM):
        return _open_ncnn(path, inputs, outputs)
    return _open_onnx(path, inputs, outputs) if path.suffix == ".onnx" else _open_torchscript(path, inputs, outputs)


def open_foreign_onnx(content: bytes) -> Run:
    """Open an ONNX model from elsewhere on the CPU, with whatever inputs and outputs it has.

    Raises:
        VerificationError: onnxruntime refuses it, now or when it runs.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: the exception reports what is wrong
    session = _refusable(lambda: onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]))
    names = [node.name for node in session.get_outputs()]

    def run(values: Mapping[str, Array]) -> dict[str, AnyArray]:
        got = _refusable(lambda: session.run(names, dict(values)))
        return dict(zip(names, got, strict=True))

    return run


def _refusable(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as err:  # onnxruntime's exceptions have no class in common
        raise VerificationError(f"onnxruntime refuses it: {quote(str(err).splitlines()[0])}") from err


def _open_onnx(path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Run:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = [(node.name, node.type, isinstance(node.shape[0], str)) for node in session.get_inputs()]
    wanted = [(name, "tensor(float)", True) for name in inputs]
    found += [(node.name, node.type, isinstance(node.shape[0], str)) for node in session.get_outputs()]
    wanted += [(name, "tensor(uint8)" if name == "pixels" else "tensor(float)", True) for name in outputs]
    if found != wanted:
        raise VerificationError(f"{path.name} has (name, type, dynamic batch) {found}; expected {wanted}")

    def run(values: Mapping[str, Array]) -> dict[str, AnyArray]:
        return dict(zip(outputs, session.run(list(outputs), dict(values)), strict=True))

    return run


def _open_torchscript(path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Run:
    with torchscript_allowed():
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]  # torch's own
    return lambda values: run_module(module, inputs, outputs, values)


def _open_ncnn(path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Run:
    import ncnn  # noqa: PLC0415 - loads for a moment, and few need it

    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage"):
        setattr(net.opt, name, False)
    # A net that was not loaded crashes when it runs, and only the return codes show it.
    if net.load_param(str(path)) or net.load_model(str(weights_of(path))):
        raise VerificationError(f"ncnn refuses {path.name}")
    names = [f"in{k}" for k in range(len(inputs))], [f"out{k}" for k in range(len(outputs))]
    if (sorted(net.input_names()), sorted(net.output_names())) != names:
        raise VerificationError(f"{path.name} has other inputs or outputs than {' and '.join(map(str, names))}")

    def run_item(item: Sequence[Array]) -> list[AnyArray]:
        extractor = net.create_extractor()
        for name, array in zip(names[0], item, strict=True):
            values = np.ascontiguousarray(array)  # has a name, since ncnn.Mat does not keep it alive
            extractor.input(name, ncnn.Mat(values).clone())  # a copy, since layers may work in place
        made = [np.array(extractor.extract(name)[1], copy=True) for name in names[1]]
        return [
            array.astype(np.uint8) if name == "pixels" else array for name, array in zip(outputs, made, strict=True)
        ]

    def run(values: Mapping[str, Array]) -> dict[str, AnyArray]:
        # A scalar of an item, such as its noise strength, is an array of one number.
        items = zip(
            *(
                np.reshape(array, (len(array), 1)) if array.ndim == 1 else array
                for array in (values[name] for name in inputs)
            ),
            strict=True,
        )
        made = zip(*map(run_item, items), strict=True)
        return {name: np.stack(arrays) for name, arrays in zip(outputs, made, strict=True)}

    return run
