"""Switches for the CPU forms of modules, and the form shared by training and inference."""

from __future__ import annotations

from dataclasses import dataclass

from queryinst_vis.models.cpu.roi_align import CpuRoIExtractor
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.models.roi import RoIExtractor


@dataclass(frozen=True)
class Forms:
    """Switches, to measure the speed-up of each form.

    Attributes:
        fold_norms: fold batch norms into the preceding convolutions.
        roi_align: compute RoIAlign as a weighted sum of feature vectors.
    """

    fold_norms: bool = True
    roi_align: bool = True


def replace_roi_align(model: QueryInst) -> None:
    """Replace ``RoIExtractor`` by ``CpuRoIExtractor`` if the model is on a CPU.

    Args:
        model: on its device; changed in place.
    """
    if model.queries.device.type != "cpu":
        return
    for name, module in list(model.named_modules()):
        if isinstance(module, RoIExtractor):
            model.set_submodule(name, CpuRoIExtractor(module))
