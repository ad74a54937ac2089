"""The step of an ensemble that has no file in a model directory: w -> what the synthesis takes.

Every row of the code is w; noise is the stored one at its full strength. As ONNX and as TorchScript.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from stylewire_export.formats.onnx import OPSET
from stylewire_export.formats.torchscript import torchscript_allowed, trace
from stylewire_export.triton.signature import Signature

_IR_VERSION = 8  # of opset 17, by the table in ONNX's Versioning.md


def write_broadcast_onnx(signature: Signature, path: Path) -> None:
    """Write w float32[N, D] -> w_plus float32[N, L, D] (, noise_strength float32[N], noise float32[N, 1]) as ONNX."""
    (w,), (code, *noise) = signature.inputs, signature.outputs
    row_count = code.shape[0]
    nodes = [
        helper.make_node("Unsqueeze", ["w", "row_axis"], ["row"]),  # [N, 1, D]
        helper.make_node("Expand", ["row", "rows"], ["w_plus"]),  # [N, L, D]
    ]
    constants = {"row_axis": [1], "rows": [1, row_count, 1]}
    outputs: dict[str, list[str | int]] = {"w_plus": ["N", row_count, w.shape[0]]}
    if noise:
        constants |= {"first": [0], "second": [1], "one": [1]}
        outputs |= {"noise_strength": ["N"], "noise": ["N", 1]}
        nodes += [
            helper.make_node("Shape", ["w"], ["sizes"]),
            helper.make_node("Slice", ["sizes", "first", "second"], ["item_count"]),
            helper.make_node("Concat", ["item_count", "one"], ["noise_sizes"], axis=0),
            helper.make_node("ConstantOfShape", ["item_count"], ["noise_strength"], value=_number(1)),
            helper.make_node("ConstantOfShape", ["noise_sizes"], ["noise"], value=_number(0)),
        ]
    graph = helper.make_graph(
        nodes,
        "broadcast",
        [_value("w", ["N", w.shape[0]])],
        [_value(name, sides) for name, sides in outputs.items()],
        [onnx.numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def write_broadcast_torchscript(signature: Signature, path: Path) -> None:
    """Write the same function as TorchScript, with its inputs and outputs by position."""
    code, *noise = signature.outputs
    module = _Broadcast(code.shape[0], noisy=bool(noise))
    traced = trace(module, (torch.zeros(2, *signature.inputs[0].shape),))
    with torchscript_allowed():
        traced.save(str(path))


class _Broadcast(nn.Module):
    def __init__(self, row_count: int, *, noisy: bool) -> None:
        super().__init__()
        self.row_count, self.noisy = row_count, noisy

    def forward(self, w: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Map w float32[N, D] to w_plus float32[N, L, D] (, noise_strength float32[N], noise float32[N, 1])."""
        rows = w.unsqueeze(1).expand(-1, self.row_count, -1).contiguous()  # [N, L, D]
        if not self.noisy:
            return rows
        return rows, torch.ones_like(w[:, 0]), torch.zeros_like(w[:, :1])


def _number(value: float) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.array([value], np.float32))


def _value(name: str, sides: Sequence[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, sides)
