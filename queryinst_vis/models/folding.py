"""Folding batch norms into the preceding convolutions, for inference with fewer operators."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.utils.fusion import fuse_conv_bn_eval

from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.utils.autograd import read_nodes

_PROBE_SIZE = 64  # pixels; the graph does not depend on it


@dataclass(frozen=True)
class ConvAndNorm:
    """A convolution whose only consumer is a batch norm, and their names in the model."""

    conv_name: str
    conv: nn.Conv2d
    norm_name: str
    norm: nn.BatchNorm2d


@torch.inference_mode(False)  # overrides the caller's mode; autograd has to record one run
def fold_batch_norms(model: QueryInst) -> None:
    """Fold batch norms into the convolutions whose only consumer they are.

    Args:
        model: in evaluation mode; changed in place.
    """
    for pair in find_convs_with_norms(model):
        model.set_submodule(pair.conv_name, fuse_conv_bn_eval(pair.conv, pair.norm))
        # timm's batch norms include the activation
        model.set_submodule(pair.norm_name, getattr(pair.norm, "act", nn.Identity()))


def find_convs_with_norms(model: QueryInst) -> list[ConvAndNorm]:
    """Convolutions whose only consumer is a batch norm, according to the autograd graph.

    Args:
        model: in evaluation mode.
    """
    from timm.layers import Conv2dSame

    runs: list[tuple[nn.Module, Node | None, Node | None]] = []

    def record(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        runs.append((module, inputs[0].grad_fn, output.grad_fn))

    names = {module: name for name, module in model.named_modules()}
    hooks = [
        module.register_forward_hook(record)
        for module in names
        # other subclasses of Conv2d modify their weights
        if type(module) in (nn.Conv2d, Conv2dSame) or isinstance(module, nn.BatchNorm2d)
    ]
    try:
        consumers: Counter[Node | None] = Counter(read_nodes(_run_all_modules(model)))
    finally:
        for hook in hooks:
            hook.remove()
    convs = {node: module for module, _, node in runs if isinstance(module, nn.Conv2d)}
    return [
        ConvAndNorm(names[convs[node]], convs[node], names[norm], norm)
        for norm, node, _ in runs
        if isinstance(norm, nn.BatchNorm2d) and node in convs and consumers[node] == 1
    ]


@torch.enable_grad()
def _run_all_modules(model: QueryInst) -> list[Tensor]:
    """The outputs of a forward pass through every module needed for inference."""
    weight = model.queries
    images = weight.new_zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE, requires_grad=True)
    output = model(images, [(_PROBE_SIZE, _PROBE_SIZE)])
    last = output.stages[-1]
    all_queries = torch.arange(len(model.queries), device=weight.device)
    outputs = [last.class_logits, last.boxes, model.mask_logits(-1, output, [all_queries])]
    if model.track_head is not None:
        outputs.append(model.track_head(output.features, list(last.boxes), list(last.q_star)))
    return outputs
