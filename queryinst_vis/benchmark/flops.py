"""Counting floating-point operations; a multiply-add counts as two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def count_flops(call: Callable[[], object]) -> int:
    """Operations of the matrix products, convolutions and attention layers in one call.

    RoIAlign, norms, activations and interpolation are not counted, so fractions of a peak are
    underestimated. No parameter may require gradients, since torch's counter does not support
    them. Compiled modules run in eager mode, since the counter cannot inspect them.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_fused_operators())
    with torch.compiler.set_stance("force_eager"), counter:
        call()
    return counter.get_total_flops()


def _fused_operators() -> dict[Any, Callable[..., int]]:
    """The fused attention operator, which torch's counter does not know."""
    name = "_native_multi_head_attention"  # some builds of PyTorch lack it
    operator = getattr(torch.ops.aten, name, None)
    return {} if operator is None else {operator: _attention_flops}


def _attention_flops(query: Any, key: Any, *_: Any, **__: Any) -> int:
    """Four projections and two products of ``(B, N, C)`` queries with ``(B, M, C)`` keys."""
    batch, queries, channels = query
    keys = key[1]
    return 4 * batch * channels * (channels * (queries + keys) + queries * keys)
