"""Pictures of results: frames with masks and identities, and who was there when."""

from queryinst_vis.visualization.overlay import Overlay, to_supervision, track_colour
from queryinst_vis.visualization.timeline import draw_timeline

__all__ = ["Overlay", "draw_timeline", "to_supervision", "track_colour"]
