"""Correcting tracks: review sessions, actions, and the journal."""

from queryinst_vis.review.action_lines import parse_record, read_actions
from queryinst_vis.review.actions import (
    ACTIONS,
    Action,
    Check,
    Delete,
    Dismiss,
    Draw,
    Fill,
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
from queryinst_vis.review.queue import suggest
from queryinst_vis.review.session import ActionResult, ReviewSession
from queryinst_vis.review.suggestions import Suggestion

__all__ = [
    "ACTIONS",
    "Action",
    "ActionResult",
    "Check",
    "ConflictError",
    "Delete",
    "Dismiss",
    "Draw",
    "Fill",
    "Merge",
    "Redo",
    "ReviewSession",
    "SetClass",
    "SetName",
    "Split",
    "Suggestion",
    "Swap",
    "Undo",
    "from_json",
    "parse_record",
    "read_actions",
    "suggest",
    "to_json",
]
