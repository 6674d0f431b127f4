"""Drawing instances on frames; depends only on arrays and supervision's types."""

from queryinst_vis.drawing.overlay import (
    DEFAULT_STYLE,
    DrawingStyle,
    Overlay,
    draw_masks,
    mark_damaged,
)
from queryinst_vis.drawing.redaction import NOTHING_HIDDEN, Redaction, Redactor
from queryinst_vis.utils.palette import track_colour

__all__ = [
    "DEFAULT_STYLE",
    "NOTHING_HIDDEN",
    "DrawingStyle",
    "Overlay",
    "Redaction",
    "Redactor",
    "draw_masks",
    "mark_damaged",
    "track_colour",
]
