"""Plots of results: timelines, contact sheets and charts."""

from queryinst_vis.drawing import Overlay, track_colour
from queryinst_vis.structures import Detections
from queryinst_vis.visualization.timeline import draw_timeline

to_supervision = Detections.to_supervision

__all__ = ["Overlay", "draw_timeline", "to_supervision", "track_colour"]
