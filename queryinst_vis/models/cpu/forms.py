"""Which forms take the place of a model's modules, and those that training and inference share."""

from __future__ import annotations

from dataclasses import dataclass

from queryinst_vis.models.cpu.lazy_pyramid import LazyFPN
from queryinst_vis.models.cpu.roi_align import CpuRoIExtractor
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.roi import RoIExtractor


@dataclass(frozen=True)
class Forms:
    """Switches, one for each form; each is still only used where it helps.

    Attributes:
        fold_norms: batch norms are folded into the convolutions before them.
        lazy_pyramid: at inference, the FPN computes only what boxes read.
        roi_align: RoIAlign adds whole feature vectors.
        winograd: large 3x3 convolutions by Winograd's algorithm.
        packed: large linear layers with weights in oneDNN's order.
    """

    fold_norms: bool = True
    lazy_pyramid: bool = True
    roi_align: bool = True
    winograd: bool = True
    packed: bool = True


def replace_roi_and_fpn(model: QueryInst, forms: Forms) -> None:
    """Put in the forms of RoIAlign and FPN, on a CPU; the names of parameters stay.

    Args:
        model: on its device; changed in place.
        forms: ``roi_align`` and ``lazy_pyramid`` are used.
    """
    if model.queries.device.type != "cpu":
        return
    if forms.lazy_pyramid:
        model.neck = LazyFPN(model.neck)
    if forms.lazy_pyramid or forms.roi_align:
        for name, module in list(model.named_modules()):
            if isinstance(module, RoIExtractor):
                model.set_submodule(name, CpuRoIExtractor(module, forms.roi_align))
