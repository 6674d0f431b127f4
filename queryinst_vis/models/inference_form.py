"""The form of a model that only infers: the same answers, up to rounding, from less work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

from queryinst_vis.models.packed import ACTIVATIONS, PackedConv2d, PackedLinear, can_pack
from queryinst_vis.models.queryinst import QueryInst

_PROBE_SIZE = 64  # pixels; what reads what does not depend on it


@torch.inference_mode(False)  # a caller's; autograd has to follow one run
def to_inference_form(
    model: QueryInst, dtype: torch.dtype = torch.float32, pack_convs: bool = True
) -> QueryInst:
    """Fold batch norms into convolutions, and lay weights out as the CPU reads them.

    Args:
        model: changed in place; it can no longer be trained, saved or moved.
        dtype: of the weights of convolutions and linear layers. Another one than float32 wants
            ``torch.autocast`` around the model, which leaves weights of its own type alone.
        pack_convs: False leaves convolutions to ``torch.compile``, which packs them itself.
    """
    model.eval().strip_training_heads()
    fold_batch_norms(model)
    _pack(model, dtype, (nn.Linear, nn.Conv2d) if pack_convs else (nn.Linear,))
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.to(dtype)
    return model.requires_grad_(False)


def fold_batch_norms(model: QueryInst) -> None:
    """Let every convolution that only a batch norm reads scale and shift by itself."""
    for name, reader in list(_sole_readers(model, (nn.BatchNorm2d,))):
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
        _replace(model, reader, getattr(norm, "act", nn.Identity()))


def _pack(model: QueryInst, dtype: torch.dtype, kinds: tuple[type[nn.Module], ...]) -> None:
    """Replace large linear layers, and convolutions with the activations that read them."""
    activations = dict(_sole_readers(model, ACTIVATIONS))
    # the lazy pyramid applies the former to tiles, without their padding; of the latter, a mask
    # needs its own class only
    read_elsewhere = {*model.neck.output_convs, model.mask_heads[-1].predictor}
    for name, module in list(model.named_modules()):
        if type(module) not in kinds or not can_pack(module, dtype):
            continue
        if isinstance(module, nn.Linear):
            _replace(model, name, PackedLinear(module, dtype))
        elif module not in read_elsewhere:
            reader = activations.get(name)
            activation = None if reader is None else model.get_submodule(reader)
            _replace(model, name, PackedConv2d(module, dtype, activation))
            if reader is not None:
                _replace(model, reader, nn.Identity())


def _sole_readers(
    model: QueryInst, readers: tuple[type[nn.Module], ...]
) -> Iterator[tuple[str, str]]:
    """Names of the convolutions that one such module reads and nothing else, and of the latter.

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
        elif isinstance(module, readers):
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
    for node, reader in read:
        if node in made and times_read[node] == 1:
            yield made[node], reader


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


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
