"""Floating-point operations of a call; a multiplication and an addition count as two."""

from __future__ import annotations

from collections.abc import Callable
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
    """An operator that torch's counter does not know: a whole attention in one call."""
    name = "_native_multi_head_attention"  # some builds of PyTorch lack it
    operator = getattr(torch.ops.aten, name, None)
    return {} if operator is None else {operator: _attention_flops}


def _attention_flops(query: Any, key: Any, *_: Any, **__: Any) -> int:
    """Four projections and two products of ``(B, N, C)`` queries with ``(B, M, C)`` keys."""
    batch, queries, channels = query
    keys = key[1]
    return 4 * batch * channels * (channels * (queries + keys) + queries * keys)
