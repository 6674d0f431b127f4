"""The form of a model for inference: the same results, up to rounding, from less work."""

from __future__ import annotations

import torch
from torch import nn

from queryinst_vis.models.cpu.forms import Forms, replace_roi_and_fpn
from queryinst_vis.models.cpu.packed import PackedLinear, can_pack
from queryinst_vis.models.cpu.winograd import WinogradConv2d, can_transform
from queryinst_vis.models.folding import fold_batch_norms
from queryinst_vis.models.queryinst import QueryInst


@torch.inference_mode(False)  # a caller's; weights have to be plain tensors
def to_inference_form(
    model: QueryInst,
    dtype: torch.dtype = torch.float32,
    pack_backbone: bool = True,
    forms: Forms = Forms(),  # noqa: B008 (it is frozen)
) -> QueryInst:
    """Replace modules by those that compute the same faster on the model's device.

    Args:
        model: on its device; changed in place, it can no longer be trained, saved or moved.
        dtype: of the weights of convolutions and linear layers. Anything but float32 wants
            ``torch.autocast`` around the model, which leaves weights of its own type alone.
        pack_backbone: also the backbone's linear layers; ``torch.compile`` packs them itself,
            and refuses those that are packed.
        forms: the replacements that may be used.
    """
    model.eval().strip_training_heads()
    if forms.fold_norms:
        fold_batch_norms(model)
    for name, module in list(model.named_modules()):
        packable = forms.packed and (pack_backbone or not name.startswith("backbone."))
        if packable and type(module) is nn.Linear and can_pack(module, dtype):
            model.set_submodule(name, PackedLinear(module, dtype))
        elif forms.winograd and isinstance(module, nn.Conv2d) and can_transform(module, dtype):
            model.set_submodule(name, WinogradConv2d(module))
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.to(dtype)
    replace_roi_and_fpn(model, forms)
    return model.requires_grad_(False)
