"""Online association: assigns identities to the detections of each frame."""

from queryinst_vis.tracking.memory import Memory
from queryinst_vis.tracking.rules import RULES, Associator, Rule, slot_rule
from queryinst_vis.tracking.tracker import Tracker

__all__ = ["RULES", "Associator", "Memory", "Rule", "Tracker", "slot_rule"]
