"""3x3 convolutions with a quarter of the multiplications (Winograd's F(4x4, 3x3), for inference).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: a 3x3 convolution
makes 4x4 outputs from a 6x6 window by A^T [(G g G^T) * (B^T d B)] A, where ``*`` multiplies 36
numbers instead of the 144 of the plain way. Over channels, each of the 36 is a matrix product.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_OUTPUTS, _TAPS = 4, 3
_WINDOW = _OUTPUTS + _TAPS - 1
# With 1/x for each x the transforms' numbers stay near 1: rounding is that of a plain convolution,
# and a fifth of what the usual 0, 1, -1, 2, -2 bring.
_POINTS = np.array([0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)])


def can_transform(conv: nn.Conv2d, dtype: torch.dtype) -> bool:
    """Whether a convolution can be computed this way, and gains by it.

    With fewer channels, the transforms take as long as the multiplications they save.
    Accelerators' libraries have such algorithms of their own, and half precision would not bear
    the differences of the transforms.
    """
    return (
        type(conv) is nn.Conv2d  # subclasses do something more
        and conv.weight.device.type == "cpu"
        and dtype == torch.float32
        and conv.kernel_size == (_TAPS, _TAPS)
        and conv.stride == conv.dilation == (1, 1)
        and conv.padding in ((0, 0), (1, 1))
        and conv.padding_mode == "zeros"
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= 128
    )


class WinogradConv2d(nn.Module):
    """A 3x3 convolution of stride 1 for inference.

    Args:
        conv: whose weights are copied; ``can_transform`` allows it.

    Attributes:
        padding: rows and columns of zeros around the input; 0 or 1, equal.
    """

    _weight: Tensor
    _inputs: Tensor
    _outputs: Tensor
    _bias: Tensor | None

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        if isinstance(conv.padding, str):
            raise ValueError(f"padding '{conv.padding}': must be given in pixels")
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.kernel_size, self.padding = conv.kernel_size, conv.padding
        filters, inputs, outputs = (
            torch.from_numpy(np.kron(matrix, matrix)) for matrix in _transforms()
        )
        weight = conv.weight.detach().double().permute(2, 3, 1, 0).reshape(_TAPS**2, -1)
        shape = (_WINDOW**2, self.in_channels, self.out_channels)
        self.register_buffer("_weight", (filters @ weight).view(shape).float())
        self.register_buffer("_inputs", inputs.float())
        self.register_buffer("_outputs", outputs.float())
        self.register_buffer("_bias", None if conv.bias is None else conv.bias.detach())

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, O, H', W')``, channels last."""
        windows, (batch, rows, columns) = self._windows(images)
        count = len(windows)
        # per window, so that both transforms work in the cache; the products read across windows
        spread = torch.bmm(self._inputs.expand(count, -1, -1), windows)
        products = torch.bmm(spread.transpose(0, 1), self._weight)
        made = torch.bmm(self._outputs.expand(count, -1, -1), products.transpose(0, 1))
        if self._bias is not None:
            made += self._bias
        tiles = made.view(batch, rows, columns, _OUTPUTS, _OUTPUTS, self.out_channels)
        size = (batch, rows * _OUTPUTS, columns * _OUTPUTS, self.out_channels)
        whole = tiles.transpose(2, 3).reshape(size)
        height, width = self._output_size(images)
        return whole[:, :height, :width].contiguous().permute(0, 3, 1, 2)

    def _windows(self, images: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """``(B * rows * columns, 36, C)`` windows, of which neighbours share two lines."""
        batch, channels, height, width = images.shape
        rows, columns = (-(-side // _OUTPUTS) for side in self._output_size(images))
        before = self.padding[0]
        tall, wide = (count * _OUTPUTS + _TAPS - 1 for count in (rows, columns))
        padded = F.pad(
            images.permute(0, 2, 3, 1),
            (0, 0, before, wide - width - before, before, tall - height - before),
        )
        windows = padded.unfold(1, _WINDOW, _OUTPUTS).unfold(2, _WINDOW, _OUTPUTS)
        shape = (batch * rows * columns, _WINDOW**2, channels)
        return windows.permute(0, 1, 2, 4, 5, 3).reshape(shape), (batch, rows, columns)

    def _output_size(self, images: Tensor) -> tuple[int, int]:
        lost = _TAPS - 1 - 2 * self.padding[0]
        return images.shape[2] - lost, images.shape[3] - lost


def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """G ``(6, 3)``, B^T ``(6, 6)`` and A^T ``(4, 6)``, by Cook and Toom's construction.

    Polynomials of the filter and of the outputs are evaluated at five points and at infinity;
    the transposed algorithm of their product is the convolution.
    """
    others = [np.delete(_POINTS, i) for i in range(len(_POINTS))]
    filters, outputs = (np.zeros((_WINDOW, degree)) for degree in (_TAPS, _OUTPUTS))
    for values in (filters, outputs):
        values[:-1] = np.vander(_POINTS, values.shape[1], increasing=True)
        values[-1, -1] = 1
    filters[:-1] /= [[np.prod(x - rest)] for x, rest in zip(_POINTS, others, strict=True)]
    inputs = np.zeros((_WINDOW, _WINDOW))
    for row, roots in zip(inputs, [*others, _POINTS], strict=True):
        row[: len(roots) + 1] = np.poly(roots)[::-1]
    return filters, inputs, outputs.T
