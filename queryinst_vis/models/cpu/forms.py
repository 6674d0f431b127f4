"""The CPU forms of a model's modules, and the one used in both training and inference."""

from __future__ import annotations

from dataclasses import dataclass

from queryinst_vis.models.cpu.roi_align import CpuRoIExtractor
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.roi import RoIExtractor


@dataclass(frozen=True)
class Forms:
    """Switches for measuring what each form is worth.

    Attributes:
        fold_norms: batch norms are folded into the preceding convolutions.
        roi_align: RoIAlign as a weighted sum of whole feature vectors.
    """

    fold_norms: bool = True
    roi_align: bool = True


def replace_roi_align(model: QueryInst) -> None:
    """Use ``CpuRoIExtractor`` if the model is on a CPU; parameter names do not change.

    Args:
        model: on its device; changed in place.
    """
    if model.queries.device.type != "cpu":
        return
    for name, module in list(model.named_modules()):
        if isinstance(module, RoIExtractor):
            model.set_submodule(name, CpuRoIExtractor(module))
