"""Drawing results: overlays of masks and identities, timelines and plots."""

from queryinst_vis.visualization.overlay import Overlay, to_supervision, track_colour
from queryinst_vis.visualization.timeline import draw_timeline

__all__ = ["Overlay", "draw_timeline", "to_supervision", "track_colour"]
