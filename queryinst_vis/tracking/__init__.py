"""Online association: gives the detections of each frame their identities."""

from queryinst_vis.tracking.memory import Memory
from queryinst_vis.tracking.rules import RULES, Associator, Rule, slot_rule
from queryinst_vis.tracking.tracker import Tracker

__all__ = ["RULES", "Associator", "Memory", "Rule", "Tracker", "slot_rule"]
