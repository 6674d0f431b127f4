"""Floating-point operations of a call, a multiplication and an addition counting as two."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def count_flops(call: Callable[[], object]) -> int:
    """What torch's flop counter finds in one call: matrix products, convolutions, attention.

    Everything else (RoIAlign, norms, activations, interpolation) counts as nothing, so that
    shares of a peak are rather too low than too high. The model's parameters must not require
    gradients, or the counter stumbles. What is compiled runs as it was written, for the counter
    cannot look into it.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_fused_operators())
    with torch.compiler.set_stance("force_eager"), counter:
        call()
    return counter.get_total_flops()


def _fused_operators() -> dict[Any, Callable[..., int]]:
    """Operators of which the counter does not know: on packed weights, and whole attentions."""
    formulas = {
        (torch.ops.mkldnn, "_linear_pointwise"): _linear_flops,
        (torch.ops.mkldnn, "_convolution_pointwise"): _convolution_flops,
        (torch.ops.aten, "_native_multi_head_attention"): _attention_flops,
    }
    return {
        getattr(room, name): formula
        for (room, name), formula in formulas.items()
        if hasattr(room, name)  # not every build of PyTorch has all of them
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
