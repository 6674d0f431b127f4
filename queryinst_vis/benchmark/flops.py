"""Floating-point operations of a call; a multiplication and an addition count as two."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def count_flops(call: Callable[[], object]) -> int:
    """Operations of the matrix products, convolutions and attentions in one call.

    RoIAlign, norms, activations and interpolation are not counted, so shares of a peak come out
    too low rather than too high. No parameter may require gradients: torch's counter fails on
    them. Compiled modules run uncompiled, because the counter cannot see into them.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_fused_operators())
    with torch.compiler.set_stance("force_eager"), counter:
        call()
    return counter.get_total_flops()


def _fused_operators() -> dict[Any, Callable[..., int]]:
    """Operators that torch's counter does not know: on packed weights, and whole attentions."""
    formulas: dict[tuple[Any, str], Callable[..., int]] = {
        (torch.ops.mkldnn, "_linear_pointwise"): _linear_flops,
        (torch.ops.mkldnn, "_convolution_pointwise"): _convolution_flops,
        (torch.ops.aten, "_native_multi_head_attention"): _attention_flops,
    }
    return {
        getattr(room, name): formula
        for (room, name), formula in formulas.items()
        if hasattr(room, name)  # some builds of PyTorch lack them
    }


def _linear_flops(inputs: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return 2 * prod(out_shape) * inputs[-1]


def _convolution_flops(inputs: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    return 2 * prod(out_shape) * prod(weight) // out_shape[1]


def _attention_flops(query: Any, key: Any, *_: Any, **__: Any) -> int:
    """Four projections and two products of ``(B, N, C)`` queries with ``(B, M, C)`` keys."""
    batch, queries, channels = query
    keys = key[1]
    return 4 * batch * channels * (channels * (queries + keys) + queries * keys)
