"""The inference form of a model: the same results, up to rounding, with less computation."""

from __future__ import annotations

import torch
from torch import nn

from queryinst_vis.models.cpu.forms import Forms, replace_roi_align
from queryinst_vis.models.folding import fold_batch_norms
from queryinst_vis.models.queryinst import QueryInst


@torch.inference_mode(False)  # overrides the caller's mode: weights must be ordinary tensors
def to_inference_form(
    model: QueryInst,
    dtype: torch.dtype = torch.float32,
    forms: Forms = Forms(),  # noqa: B008 (it is frozen)
) -> QueryInst:
    """Replace modules by equivalents that are faster on the model's device.

    Args:
        model: on its device; changed in place, and can no longer be trained, saved or moved.
        dtype: of the weights of convolutions and linear layers. Anything but float32 requires
            running the model under ``torch.autocast``.
        forms: the replacements to use.
    """
    model.eval().strip_training_heads()
    if forms.fold_norms:
        fold_batch_norms(model)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.to(dtype)
    if forms.roi_align:
        replace_roi_align(model)
    return model.requires_grad_(False)
