"""Looking into the graph that autograd records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor
from torch.autograd.graph import Node


def read_nodes(outputs: Iterable[Tensor]) -> Iterator[Node]:
    """Every node of the graph behind ``outputs``, as many times as other nodes read its result.

    The leaves are nodes with an attribute ``variable``, the tensor that gets a gradient.
    """
    waiting = [output.grad_fn for output in outputs]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        for source, _ in node.next_functions if node else ():
            if source is None:
                continue
            yield source
            if source not in seen:
                seen.add(source)
                waiting.append(source)
