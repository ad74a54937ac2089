"""Graphs as ncnn files, for CPUs without matrix units: Winograd convolutions need a half to a third of the products.

ncnn has no batch axis and no bytes: the inputs ``in0``, ``in1`` ... and outputs ``out0``, ``out1`` ... are one item's,
in the graph's order, and pixels are float32 whose integer parts are the bytes. pnnx, by ncnn's authors, converts.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from stylewire_export.errors import BundleError
from stylewire_export.formats.torchscript import write_torchscript
from stylewire_export.graphs import Graph, SynthesisWithPixels

OPEN_INPUT = "noise"
"""The one input of any length; all others have one shape."""
PARAM, BIN = ".ncnn.param", ".ncnn.bin"
"""Suffixes of the structure, which is text, and of the weights."""


class _WithLevels(nn.Module):
    """``SynthesisWithPixels`` without the step to bytes."""

    def __init__(self, module: SynthesisWithPixels) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Map the network's inputs to levels float32[N, R, R, C] and the image float32[N, C, R, R]."""
        image: Tensor = self.module.synthesis(*inputs)
        return self.module.levels(image), image


def write_ncnn(graph: Graph, path: Path) -> None:
    """Convert a graph; ``path`` ends in ``.ncnn.param``, the weights come beside it.

    Raises:
        BundleError: pnnx is not installed, or cannot convert the graph.
    """
    module = _WithLevels(graph.module) if isinstance(graph.module, SynthesisWithPixels) else graph.module
    example = graph.examples(1)
    inputs = [example[name] for name in graph.inputs]
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        write_torchscript(replace(graph, module=module), Path(scratch) / "graph.pt", batch_size=1)
        shapes = ",".join(str(list(array.shape)).replace(" ", "") for array in inputs)
        # fp16=0: pnnx would store the weights in half precision.
        command = [_converter(), "graph.pt", f"inputshape={shapes}", "fp16=0"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)  # noqa: S603 - our file
        made = Path(scratch) / "graph.ncnn.param", Path(scratch) / "graph.ncnn.bin"
        if done.returncode != 0 or not all(file.exists() for file in made):
            raise BundleError(f"pnnx cannot convert {graph.name}: {(done.stderr or done.stdout).strip()[-300:]}")
        shapes_of = {f"in{k}": array.shape[1:] for k, array in enumerate(inputs) if graph.inputs[k] != OPEN_INPUT}
        path.write_text(_with_shapes(made[0].read_text(encoding="utf-8"), shapes_of), encoding="utf-8")
        shutil.move(made[1], weights_of(path))


def _with_shapes(structure: str, shapes: Mapping[str, Sequence[int]]) -> str:
    """Write the shapes of the inputs into the file, so that whoever runs it can refuse others: ncnn would crash.

    A scalar of an item is an array of one number. Keys of the sizes, by the layer ``Input`` in ncnn's operators.md:
    0 width, 1 height, 2 channels.
    """

    def add_sizes(found: re.Match[str]) -> str:
        sizes = reversed(shapes.get(found[1], ()) or ((1,) if found[1] in shapes else ()))
        return found[0] + "".join(f" {key}={size}" for key, size in enumerate(sizes))

    return re.sub(r"^Input +\S+ +0 +1 +(\S+)", add_sizes, structure, flags=re.MULTILINE)


def weights_of(path: Path) -> Path:
    """Return the path of the weights beside a structure: ``synthesis.ncnn.param`` -> ``synthesis.ncnn.bin``."""
    return path.with_name(path.name.removesuffix(PARAM) + BIN)


def _converter() -> str:
    try:
        import pnnx  # noqa: PLC0415 - an optional package
    except ImportError as err:
        raise BundleError("the format ncnn needs pnnx: pip install 'stylewire[export]', or choose --formats") from err
    return str(pnnx.EXEC_PATH)
