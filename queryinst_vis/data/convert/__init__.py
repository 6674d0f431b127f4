"""Converters from other formats to YouTube-VIS and COCO JSON, and from YouTube-VIS to MOTS."""

from queryinst_vis.data.convert.builder import (
    LabelledTrack,
    LabelledVideo,
    build_video_set,
    youtube_vis_to_coco,
)
from queryinst_vis.data.convert.cityscapes import convert_cityscapes
from queryinst_vis.data.convert.coco_video import convert_coco_video
from queryinst_vis.data.convert.cvat import convert_cvat
from queryinst_vis.data.convert.davis import convert_davis
from queryinst_vis.data.convert.installed import convert_installed
from queryinst_vis.data.convert.labelme import convert_labelme
from queryinst_vis.data.convert.mots import convert_mots
from queryinst_vis.data.convert.to_mots import convert_to_mots
from queryinst_vis.data.convert.youtube_vis import convert_youtube_vis

__all__ = [
    "LabelledTrack",
    "LabelledVideo",
    "build_video_set",
    "convert_cityscapes",
    "convert_coco_video",
    "convert_cvat",
    "convert_davis",
    "convert_installed",
    "convert_labelme",
    "convert_mots",
    "convert_to_mots",
    "convert_youtube_vis",
    "youtube_vis_to_coco",
]
