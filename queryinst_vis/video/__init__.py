"""Reading and writing videos, frame by frame."""

from queryinst_vis.video.live import Arrival, LiveReader
from queryinst_vis.video.reader import VideoReader
from queryinst_vis.video.writer import VideoWriter

__all__ = ["Arrival", "LiveReader", "VideoReader", "VideoWriter"]
