"""Average precision on YouTube-VIS, COCO and Cityscapes files; knows no network."""

from queryinst_vis.evaluation.cityscapes import evaluate_cityscapes, write_cityscapes_zip
from queryinst_vis.evaluation.coco import evaluate_coco
from queryinst_vis.evaluation.youtube_vis import evaluate_youtube_vis

__all__ = [
    "evaluate_cityscapes",
    "evaluate_coco",
    "evaluate_youtube_vis",
    "write_cityscapes_zip",
]
