"""The form of a model that only infers: the same answers, up to rounding, from less work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

from queryinst_vis.models.cpu.packed import PackedLinear, can_pack
from queryinst_vis.models.cpu.winograd import WinogradConv2d, can_transform
from queryinst_vis.models.queryinst import QueryInst

_PROBE_SIZE = 64  # pixels; what reads what does not depend on it


@torch.inference_mode(False)  # a caller's; autograd has to follow one run
def to_inference_form(
    model: QueryInst, dtype: torch.dtype = torch.float32, pack_backbone: bool = True
) -> QueryInst:
    """Fold batch norms into convolutions, and make large layers those that the CPU does fastest.

    Args:
        model: changed in place; it can no longer be trained, saved or moved.
        dtype: of the weights of convolutions and linear layers. Another one than float32 wants
            ``torch.autocast`` around the model, which leaves weights of its own type alone.
        pack_backbone: also the backbone's linear layers; ``torch.compile`` packs them itself,
            and refuses those that are packed.
    """
    model.eval().strip_training_heads()
    fold_batch_norms(model)
    for name, module in list(model.named_modules()):
        packable = pack_backbone or not name.startswith("backbone.")
        if packable and type(module) is nn.Linear and can_pack(module, dtype):
            replace_module(model, name, PackedLinear(module, dtype))
        elif isinstance(module, nn.Conv2d) and can_transform(module, dtype):
            replace_module(model, name, WinogradConv2d(module))
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.to(dtype)
    return model.requires_grad_(False)


def fold_batch_norms(model: QueryInst) -> None:
    """Let every convolution that only a batch norm reads scale and shift by itself."""
    for name, reader in list(convs_with_norms(model)):
        conv, norm = model.get_submodule(name), model.get_submodule(reader)
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        # timm's batch norms hold the activation that follows
        replace_module(model, reader, getattr(norm, "act", nn.Identity()))


def convs_with_norms(model: QueryInst) -> Iterator[tuple[str, str]]:
    """Names of the convolutions that only a batch norm reads, and of those batch norms.

    The model has to be in evaluation mode.

    Autograd's graph of a run tells: who reads a result holds the node that made it.
    """
    made: dict[Node, str] = {}
    read: list[tuple[Node | None, str]] = []
    hooks = []
    for name, module in model.named_modules():
        if type(module) in (nn.Conv2d, Conv2dSame):  # other subclasses change the weights
            hooks.append(
                module.register_forward_hook(
                    lambda _, inputs, output, name=name: made.update({output.grad_fn: name})
                )
            )
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(
                module.register_forward_pre_hook(
                    lambda _, inputs, name=name: read.append((inputs[0].grad_fn, name))
                )
            )
    try:
        times_read = Counter(_reads(_run_everything(model)))
    finally:
        for hook in hooks:
            hook.remove()
    for node, norm in read:
        if node in made and times_read[node] == 1:
            yield made[node], norm


@torch.enable_grad()
def _run_everything(model: QueryInst) -> list[Tensor]:
    """All outputs of a run in which every module that inference needs takes part."""
    weight = model.queries
    images = weight.new_zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE, requires_grad=True)
    output = model(images, [(_PROBE_SIZE, _PROBE_SIZE)])
    last = output.stages[-1]
    everything = torch.arange(len(model.queries), device=weight.device)
    outputs = [last.class_logits, last.boxes, model.mask_logits(-1, output, [everything])]
    if model.track_head is not None:
        outputs.append(model.track_head(output.features, list(last.boxes), list(last.q_star)))
    return outputs


def _reads(outputs: Iterable[Tensor]) -> Iterator[Node]:
    """Every node of autograd's graph, as often as others read it."""
    waiting = [output.grad_fn for output in outputs]
    seen = set(waiting)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is None:
                continue
            yield node
            if node not in seen:
                seen.add(node)
                waiting.append(node)


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` where ``name``, dotted, stands in the model."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
