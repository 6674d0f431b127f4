"""Online association: detections of one frame after the other in, identities out."""

from queryinst_vis.tracking.association import RULES, Rule
from queryinst_vis.tracking.memory import Memory
from queryinst_vis.tracking.tracker import Tracker

__all__ = ["RULES", "Memory", "Rule", "Tracker"]
