"""Drawing instances on frames; it knows arrays and supervision's types alone."""

from queryinst_vis.drawing.overlay import (
    DrawingStyle,
    Overlay,
    draw_masks,
    mark_damaged,
    track_colour,
)
from queryinst_vis.drawing.redaction import Redaction, Redactor

__all__ = [
    "DrawingStyle",
    "Overlay",
    "Redaction",
    "Redactor",
    "draw_masks",
    "mark_damaged",
    "track_colour",
]
