"""The formats of graph files: what writes them, what they are called, and in what precision they compute."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from stylewire_export.formats.ncnn import BIN, PARAM, write_ncnn
from stylewire_export.formats.onnx import write_half_onnx, write_onnx
from stylewire_export.formats.torchscript import write_torchscript
from stylewire_export.graphs import Graph

Precision: TypeAlias = Literal["fp32", "fp16"]


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of graph file.

    Attributes:
        suffix: ``<graph><suffix>`` is the name of the file.
        write: writes a graph of the right precision.
        precision: fp16 files hold ``half_form`` of a network.
        optional: makes a runtime faster that has another file too, so it is left out, with a note, where a network
            cannot have it; mapping networks never have it.
        weights_suffix: of a second file with the weights, where there is one.
    """

    suffix: str
    write: Callable[[Graph, Path], None]
    precision: Precision = "fp32"
    optional: bool = False
    weights_suffix: str = ""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of all files of a graph in this format."""
        return (self.suffix, self.weights_suffix) if self.weights_suffix else (self.suffix,)


FORMATS = {
    "onnx": Format(".onnx", write_onnx),
    "torchscript": Format(".pt", write_torchscript),
    "ncnn": Format(PARAM, write_ncnn, optional=True, weights_suffix=BIN),
    "onnx-fp16": Format(".fp16.onnx", write_half_onnx, precision="fp16", optional=True),
    "torchscript-fp16": Format(".fp16.pt", write_torchscript, precision="fp16", optional=True),
}
DEFAULT_FORMATS = ("onnx", "torchscript", "ncnn", "onnx-fp16")
"""Not torchscript-fp16: it is verified where PyTorch runs half precision on the CPU, which takes minutes."""
