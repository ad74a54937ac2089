"""A layer as files, and the runtimes that run them with one thread each."""

import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import ncnn
import numpy as np
import onnxruntime
import openvino
import pnnx
import torch
from openvino import properties
from torch import nn

Run: TypeAlias = Callable[[], np.ndarray]
"""Runs the layer on its input; return float32[1, O, 2H, 2W]."""
TORCH, BF16 = "torch", "openvino bf16"


def write_files(layer: nn.Module, x: torch.Tensor, stem: Path) -> None:
    """Write ``.onnx``, ``.pt`` and ``.ncnn.param`` with ``.ncnn.bin``, unless they are there."""
    if stem.with_suffix(".ncnn.bin").exists():
        return
    stem.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing and its exporter are old, which they say at every call
        torch.onnx.export(layer, (x,), stem.with_suffix(".onnx"), dynamo=False, opset_version=17, input_names=["x"])
        traced = torch.jit.trace(layer, (x,))  # type: ignore[no-untyped-call]  # torch ships no types for it
        torch.jit.freeze(traced).save(str(stem.with_suffix(".pt")))
    shape = str(list(x.shape)).replace(" ", "")
    command = [str(pnnx.EXEC_PATH), f"{stem.name}.pt", f"inputshape={shape}", "fp16=0"]
    subprocess.run(command, cwd=stem.parent, check=True, capture_output=True)


def runners(layer: nn.Module, x: torch.Tensor, stem: Path) -> Iterator[tuple[str, Run]]:
    """Open the files of a layer in every runtime; bf16 only where the processor has it."""
    given = x.numpy()
    yield TORCH, lambda: layer(x).numpy()
    yield "onnxruntime", _in_onnxruntime(stem.with_suffix(".onnx"), given)
    core = openvino.Core()
    yield "openvino fp32", _in_openvino(core, stem.with_suffix(".onnx"), given, openvino.Type.f32)
    if "BF16" in core.get_property("CPU", properties.device.capabilities()):
        yield BF16, _in_openvino(core, stem.with_suffix(".onnx"), given, openvino.Type.bf16)
    yield "ncnn", _in_ncnn(stem, given)


def _in_onnxruntime(path: Path, given: np.ndarray) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run() -> np.ndarray:
        made: np.ndarray = session.run(None, {"x": given})[0]
        return made

    return run


def _in_openvino(core: openvino.Core, path: Path, given: np.ndarray, precision: openvino.Type) -> Run:
    settings = {
        properties.hint.inference_precision(): precision,
        properties.inference_num_threads(): 1,
        properties.num_streams(): 1,
    }
    request = core.compile_model(path, "CPU", settings).create_infer_request()

    def run() -> np.ndarray:
        request.infer([given], share_inputs=True)
        made: np.ndarray = request.get_output_tensor(0).data
        return made

    return run


def _in_ncnn(stem: Path, given: np.ndarray) -> Run:
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = False
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage"):
        setattr(net.opt, name, False)
    assert not net.load_param(str(stem.with_suffix(".ncnn.param")))
    assert not net.load_model(str(stem.with_suffix(".ncnn.bin")))

    def run() -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(given[0]))
        return np.array(extractor.extract("out0")[1])[None]

    return run
