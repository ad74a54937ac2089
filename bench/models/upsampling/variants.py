"""Five ways to compute an up-sampling layer: transposed 3x3 convolution with stride 2, then the filter 1 3 3 1.

Each maps float32[N, I, H, W] to float32[N, O, 2H, 2W] and is made from the same weight float32[O, I, 3, 3].
Shape legend: N batch, I O channels, H W input size, p row and q column of a pixel within its block of 2 x 2.
"""

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
"""Sum 2: the gain restores the brightness that the inserted zeros take."""
_BLOCK = tuple(product((0, 1), (0, 1)))
"""(p, q) in the order in which a pixel shuffle takes its channels."""


class Direct(nn.Module):
    """The transposed convolution, then the filter as a column and a row."""

    kernel: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("kernel", weight.transpose(0, 1).contiguous())  # [I, O, 3, 3]
        self.blur = _TwoBlurs(len(weight))

    def forward(self, x: Tensor) -> Tensor:
        """Double the size."""
        made: Tensor = self.blur(functional.conv_transpose2d(x, self.kernel, stride=2))
        return made


class Fused(nn.Module):
    """The transposed convolution, then the filter as one square."""

    kernel: Tensor
    square: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("kernel", weight.transpose(0, 1).contiguous())  # [I, O, 3, 3]
        self.register_buffer("square", torch.outer(TAPS, TAPS).repeat(len(weight), 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Double the size."""
        x = functional.conv_transpose2d(x, self.kernel, stride=2)
        return functional.conv2d(x, self.square, padding=1, groups=x.shape[1])


class Shuffle(nn.Module):
    """One 2x2 convolution to 4 O channels whose blocks interleave, then the filter."""

    kernel: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        kernel = torch.stack([_phase(weight, p, q) for p, q in _BLOCK], 1)  # [O, 4, I, 2, 2]
        self.register_buffer("kernel", kernel.flatten(0, 1))
        self.blur = _TwoBlurs(len(weight))

    def forward(self, x: Tensor) -> Tensor:
        """Double the size."""
        x = functional.pixel_shuffle(functional.conv2d(x, self.kernel, padding=1), 2)
        made: Tensor = self.blur(x[:, :, :-1, :-1])  # [N, O, 2H+1, 2W+1], as the transposed convolution has it
        return made


class Subpixel(nn.Module):
    """Four convolutions of the sizes 2x2, 2x1, 1x2 and 1x1, without the zeros of ``Shuffle``, then the filter."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        for p, q in _BLOCK:
            self.register_buffer(f"kernel{p}{q}", _phase(weight, p, q)[:, :, p:, q:].contiguous())
        self.blur = _TwoBlurs(len(weight))

    def forward(self, x: Tensor) -> Tensor:
        """Double the size."""
        phases = torch.stack(list(self._phases(x)), 2).flatten(1, 2)  # [N, 4 O, H+1, W+1]
        made: Tensor = self.blur(functional.pixel_shuffle(phases, 2)[:, :, :-1, :-1])
        return made

    def _phases(self, x: Tensor) -> Iterator[Tensor]:
        for p, q in _BLOCK:
            made = functional.conv2d(x, self.get_buffer(f"kernel{p}{q}"), padding=(1 - p, 1 - q))
            yield functional.pad(made, (0, q, 0, p))  # the last row and column are cut off again


class Polyphase(nn.Module):
    """One 3x3 convolution to 4 O channels with the filter folded in: Winograd's form exists for it, and for it only."""

    kernel: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        channels, rows = weight.shape[:2]
        # A transposed convolution with the 6x6 kernel T = weight * filter. Of its result Z, the layer is rows and
        # columns 2 to 2H+1, and Z[2i + p + 2] = sum_k x[i + k - 1] T[p + 4 - 2k].
        square = torch.outer(TAPS, TAPS).flip((0, 1))[None, None]
        exclusive = functional.conv2d(weight.reshape(-1, 1, 3, 3), square, padding=3).reshape(channels, rows, 6, 6)
        exclusive = functional.pad(exclusive, (0, 2, 0, 2))
        phases = [exclusive[:, :, p : p + 6 : 2, q : q + 6 : 2].flip((2, 3)) for p, q in _BLOCK]
        self.register_buffer("kernel", torch.stack(phases, 1).flatten(0, 1))  # [4 O, I, 3, 3]

    def forward(self, x: Tensor) -> Tensor:
        """Double the size."""
        return functional.pixel_shuffle(functional.conv2d(x, self.kernel, padding=1), 2)


VARIANTS: dict[str, type[nn.Module]] = {
    "direct": Direct,
    "fused": Fused,
    "shuffle": Shuffle,
    "subpixel": Subpixel,
    "polyphase": Polyphase,
}


class _TwoBlurs(nn.Module):
    """The filter as a column and a row: float32[N, C, 2H+1, 2W+1] -> float32[N, C, 2H, 2W]."""

    column: Tensor
    row: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("column", TAPS.view(1, 1, -1, 1).repeat(channels, 1, 1, 1))
        self.register_buffer("row", TAPS.view(1, 1, 1, -1).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.conv2d(x, self.column, padding=(1, 0), groups=self.channels)
        return functional.conv2d(x, self.row, padding=(0, 1), groups=self.channels)


def _phase(weight: Tensor, p: int, q: int) -> Tensor:
    """Return float32[O, I, 2, 2] of pixel (p, q) of every block: y[2i + p] = sum_k x[i + k - 1] W[p + 2 - 2k]."""
    padded = functional.pad(weight, (0, 1, 0, 1))  # [O, I, 4, 4]
    return padded[:, :, p::2, q::2].flip((2, 3))
