"""The form of a model for inference on a GPU: static shapes, and nothing sent to the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from queryinst_vis.models.folding import fold_batch_norms
from queryinst_vis.models.neck import FPN
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.roi import RoIExtractor, assign_levels, to_rois


@torch.inference_mode(False)  # a caller's; weights have to be plain tensors
def to_cuda_form(model: QueryInst, dtype: torch.dtype = torch.float32) -> QueryInst:
    """Replace modules by those that compute the same without a host synchronisation.

    The form runs on every device, so that its results can be compared with the plain model's where
    there is no GPU; only on a GPU is it faster.

    Args:
        model: on its device; changed in place, it can no longer be trained or saved.
        dtype: of the weights of convolutions and linear layers. Anything but float32 wants
            ``torch.autocast`` around the model, which would otherwise convert the weights for
            every frame.
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
    """An FPN whose maps are as RoIAlign's kernel reads them: contiguous float32.

    The kernel would convert and copy whole maps otherwise, once for each of its calls.

    Args:
        fpn: whose convolutions it uses, under the same names.
    """

    def __init__(self, fpn: FPN) -> None:
        nn.Module.__init__(self)
        self.pyramid = fpn.pyramid

    def forward(self, levels: Sequence[Tensor]) -> Sequence[Tensor]:
        """Maps ``(B, C_l, H_l, W_l)``, finest first, to ``(B, C, H_l, W_l)``."""
        return [level.float().contiguous() for level in super().forward(levels)]


class StaticRoIExtractor(RoIExtractor):
    """A ``RoIExtractor`` that pools every box from every level and selects afterwards.

    Which boxes read which level is data, and a GPU that is asked for it has to wait. Pooling a few
    boxes four times costs less.

    Args:
        extractor: the module whose place it takes.
    """

    def __init__(self, extractor: RoIExtractor) -> None:
        super().__init__(extractor.roi_size, extractor.sampling_ratio, extractor.finest_stride)

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """As ``RoIExtractor``."""
        rois = to_rois(boxes)
        levels = assign_levels(rois[:, 1:], len(features))
        pooled = [self.pool(feature, rois, level) for level, feature in enumerate(features)]
        return torch.stack(pooled)[levels, torch.arange(len(rois), device=rois.device)]
