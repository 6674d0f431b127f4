"""Layers whose weights lie as oneDNN reads them on this CPU.

PyTorch's own layers lay their weights out anew at every call. The operators are those to which
``torch.compile`` turns such layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ACTIVATIONS = (nn.ReLU, nn.ReLU6)
"""What a packed convolution can do to its result while it is in the cache."""


def can_pack(layer: nn.Linear | nn.Conv2d, dtype: torch.dtype) -> bool:
    """Whether packing pays, and this PyTorch has the operators and this CPU the instructions.

    Where few rows meet many weights, as in query heads, PyTorch's linear layer takes three times
    as long as reading the weights does; small ones, which stay in the cache, gain nothing.
    """
    operators = torch.ops.mkldnn
    if layer.weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if isinstance(layer, nn.Linear):
        known = hasattr(operators, "_reorder_linear_weight") and layer.weight.numel() >= 2**18
    else:
        by_number = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        known = hasattr(operators, "_reorder_convolution_weight") and by_number
    return known and (
        dtype == torch.float32
        or (dtype == torch.bfloat16 and operators._is_mkldnn_bf16_supported())
    )


class PackedLinear(nn.Module):
    """A linear layer for inference.

    Args:
        layer: whose weights are copied.
        dtype: of the weights, and so of the result.
    """

    def __init__(self, layer: nn.Linear, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        # no buffers: an opaque tensor cannot be saved, copied or moved
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach().to(dtype))
        self._bias = None if layer.bias is None else layer.bias.detach().to(dtype)
        self._dtype = dtype

    def forward(self, inputs: Tensor) -> Tensor:
        """``(..., in)`` to ``(..., out)``."""
        return torch.ops.mkldnn._linear_pointwise(
            inputs.to(self._dtype), self._weight, self._bias, "none", [], ""
        )


class PackedConv2d(nn.Module):
    """A convolution, and the activation after it, for inference.

    The best layout depends on the input's size; weights are packed for the last one that came.

    Args:
        conv: whose weights are used.
        dtype: of the weights, and so of the result.
        activation: one of ``ACTIVATIONS``, or None.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        dtype: torch.dtype = torch.float32,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self._geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self._weight = conv.weight.detach().to(dtype)
        self._bias = None if conv.bias is None else conv.bias.detach().to(dtype)
        if activation is None:
            self._activation: tuple[str, list[float]] = ("none", [])
        elif isinstance(activation, nn.ReLU6):
            self._activation = ("hardtanh", [0.0, 6.0])
        else:
            self._activation = ("relu", [])
        self._packed_for: torch.Size | None = None

    def forward(self, images: Tensor) -> Tensor:
        """``(B, in, H, W)`` to ``(B, out, H', W')``."""
        operators = torch.ops.mkldnn
        images = images.to(self._weight.dtype)
        if images.shape != self._packed_for:
            self._packed = operators._reorder_convolution_weight(
                self._weight, *self._geometry, images.shape
            )
            self._packed_for = images.shape
        return operators._convolution_pointwise(
            images, self._packed, self._bias, *self._geometry, *self._activation, ""
        )
