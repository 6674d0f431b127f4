"""The inference form of a model for GPUs: static shapes, without host synchronisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from queryinst_vis.models.folding import fold_batch_norms
from queryinst_vis.models.neck import FPN
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.roi import RoIExtractor, assign_levels, to_rois


@torch.inference_mode(False)  # overrides the caller's mode: weights must be ordinary tensors
def to_cuda_form(model: QueryInst, dtype: torch.dtype = torch.float32) -> QueryInst:
    """Replace modules by equivalents without host synchronisation.

    The converted model runs on every device, so that it can be tested without a GPU; it is faster
    only on a GPU.

    Args:
        model: on its device; changed in place, and can no longer be trained or saved.
        dtype: of the weights of convolutions and linear layers. Anything but float32 requires
            running the model under ``torch.autocast``, which need not convert the weights for
            every frame then.
    """
    model.eval().strip_training_heads()
    fold_batch_norms(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, RoIExtractor):
            model.set_submodule(name, StaticRoIExtractor(module))
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.to(dtype)
    model.neck = PoolableFPN(model.neck)
    return model.requires_grad_(False)


def is_cuda_form(model: QueryInst) -> bool:
    """Whether ``to_cuda_form`` has converted the model."""
    return isinstance(model.neck, PoolableFPN)


class PoolableFPN(FPN):
    """An FPN with contiguous float32 output, as required by the RoIAlign kernel.

    Otherwise, the kernel would convert and copy whole maps at each call.

    Args:
        fpn: provides the convolutions; their names do not change.
    """

    def __init__(self, fpn: FPN) -> None:
        nn.Module.__init__(self)
        self.pyramid = fpn.pyramid

    def forward(self, levels: Sequence[Tensor]) -> Sequence[Tensor]:
        """Map ``(B, C_l, H_l, W_l)`` features, finest first, to ``(B, C, H_l, W_l)``."""
        return [level.float().contiguous() for level in super().forward(levels)]


class StaticRoIExtractor(RoIExtractor):
    """A ``RoIExtractor`` that pools every box from every level, and then selects the level.

    Grouping boxes by level depends on data and requires a host synchronisation. Pooling a few
    boxes four times is cheaper.

    Args:
        extractor: the module to replace.
    """

    def __init__(self, extractor: RoIExtractor) -> None:
        super().__init__(extractor.roi_size, extractor.sampling_ratio, extractor.finest_stride)

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """As ``RoIExtractor``."""
        rois = to_rois(boxes)
        levels = assign_levels(rois[:, 1:], len(features))
        pooled = [self.pool(feature, rois, level) for level, feature in enumerate(features)]
        return torch.stack(pooled)[levels, torch.arange(len(rois), device=rois.device)]
