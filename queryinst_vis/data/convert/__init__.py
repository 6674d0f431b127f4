"""Converters from other formats to YouTube-VIS and COCO JSON."""

from queryinst_vis.data.convert.cityscapes import convert_cityscapes
from queryinst_vis.data.convert.mots import convert_mots
from queryinst_vis.data.convert.youtube_vis import YouTubeVisBuilder, youtube_vis_to_coco

__all__ = ["YouTubeVisBuilder", "convert_cityscapes", "convert_mots", "youtube_vis_to_coco"]
