"""Correcting what tracking got wrong: a session of a video, its actions, and its journal."""

from queryinst_vis.review.actions import (
    ACTIONS,
    Action,
    Check,
    Delete,
    Dismiss,
    Draw,
    Merge,
    Redo,
    SetClass,
    SetName,
    Split,
    Swap,
    Undo,
    from_json,
    to_json,
)
from queryinst_vis.review.edits import ConflictError
from queryinst_vis.review.session import ActionResult, ReviewSession, parse_record, read_actions

__all__ = [
    "ACTIONS",
    "Action",
    "ActionResult",
    "Check",
    "ConflictError",
    "Delete",
    "Dismiss",
    "Draw",
    "Merge",
    "Redo",
    "ReviewSession",
    "SetClass",
    "SetName",
    "Split",
    "Swap",
    "Undo",
    "from_json",
    "parse_record",
    "read_actions",
    "to_json",
]
