"""Inspecting the autograd graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor
from torch.autograd.graph import Node


def read_nodes(outputs: Iterable[Tensor]) -> Iterator[Node]:
    """Every node of the graph of ``outputs``, once per use of its result.

    Leaves are nodes with an attribute ``variable``, the tensor that gets the gradient.
    """
    pending = [output.grad_fn for output in outputs]
    seen = set(pending)
    while pending:
        node = pending.pop()
        for source, _ in node.next_functions if node else ():
            if source is None:
                continue
            yield source
            if source not in seen:
                seen.add(source)
                pending.append(source)
