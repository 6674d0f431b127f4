"""Output files of tracking: a table of small writers, one per kind of file."""

from queryinst_vis.inference.outputs.kinds import OUTPUTS
from queryinst_vis.inference.outputs.output import Output, OutputContext, OutputKind
from queryinst_vis.inference.outputs.plan import OutputPlan
from queryinst_vis.inference.outputs.run_file import RunSettings

__all__ = [
    "OUTPUTS",
    "Output",
    "OutputContext",
    "OutputKind",
    "OutputPlan",
    "RunSettings",
]
