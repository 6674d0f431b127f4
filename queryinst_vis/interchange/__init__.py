"""Result files of videos in the formats of the field: YouTube-VIS, MOTS text, COCO-video."""

from queryinst_vis.interchange.convert import FORMATS, convert_results

__all__ = ["FORMATS", "convert_results"]
