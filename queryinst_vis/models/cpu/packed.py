"""Linear layers whose weights lie as oneDNN reads them on this CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def can_pack(layer: nn.Linear, dtype: torch.dtype) -> bool:
    """Whether packing pays, and this PyTorch has the operators and this CPU the instructions.

    Where few rows meet many weights, as in query heads, PyTorch's own layer takes three times as
    long as reading the weights does; weights that stay in the cache gain nothing.
    """
    operators = torch.ops.mkldnn
    if (
        layer.weight.device.type != "cpu"
        or layer.weight.numel() < 2**18
        or not torch.backends.mkldnn.is_available()
        or not hasattr(operators, "_reorder_linear_weight")
    ):
        return False
    return dtype == torch.float32 or (
        dtype == torch.bfloat16 and operators._is_mkldnn_bf16_supported()
    )


class PackedLinear(nn.Module):
    """A linear layer for inference, by the operators to which ``torch.compile`` turns such layers.

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
