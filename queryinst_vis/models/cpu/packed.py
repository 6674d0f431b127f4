"""Linear layers whose weights are stored in the order in which oneDNN reads them on this CPU."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MIN_WEIGHTS = 2**18
"""Smaller matrices stay in the cache and gain nothing."""


def can_pack(layer: nn.Linear, dtype: torch.dtype) -> bool:
    """Whether a linear layer can be packed here, and gains by it.

    Where few rows meet many weights, as in query heads, PyTorch's own layer takes three times as
    long as reading the weights does.
    """
    weight = layer.weight
    return weight.device.type == "cpu" and weight.numel() >= MIN_WEIGHTS and packing_works(dtype)


@cache
def packing_works(dtype: torch.dtype) -> bool:
    """Whether this PyTorch's private operators give a linear layer's results on this CPU.

    Found out by trying: builds of PyTorch may lack the operators, have other signatures of them,
    or be without the instructions that a type needs.
    """
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    layer = nn.utils.skip_init(nn.Linear, 16, 16)
    inputs = torch.linspace(-1, 1, 32).view(2, 16)
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(-0.1, 0.1, 256).view(16, 16))
            layer.bias.copy_(inputs[0])
            packed = PackedLinear(layer, dtype)(inputs)
            expected = F.linear(inputs, layer.weight, layer.bias)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return packed.dtype == dtype and torch.allclose(packed.float(), expected, atol=0.05)


class PackedLinear(nn.Module):
    """A linear layer for inference, by the operators that ``torch.compile`` uses for such layers.

    Args:
        layer: whose weights are copied.
        dtype: of the weights, and so of the result.
    """

    def __init__(self, layer: nn.Linear, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        # no buffers: an opaque tensor cannot be saved, copied or moved
        self._weight = _pack(layer.weight.detach().to(dtype))
        self._bias = None if layer.bias is None else layer.bias.detach().to(dtype)
        self._dtype = dtype

    def forward(self, inputs: Tensor) -> Tensor:
        """``(..., in)`` to ``(..., out)``."""
        return torch.ops.mkldnn._linear_pointwise(
            inputs.to(self._dtype), self._weight, self._bias, "none", [], ""
        )

    def __getstate__(self) -> dict[str, Any]:
        """For pickles and copies, with the weights in their plain order."""
        return self.__dict__ | {"_weight": self._weight.to_dense()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Pack the weights again, as the processor of this machine reads them."""
        super().__setstate__(state | {"_weight": _pack(state["_weight"])})


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight)
