"""Drawing instances on frames; it knows arrays and supervision's types alone."""

from queryinst_vis.drawing.overlay import Overlay, draw_masks, mark_damaged, track_colour

__all__ = ["Overlay", "draw_masks", "mark_damaged", "track_colour"]
