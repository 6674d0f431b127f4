"""Average precision on YouTube-VIS and COCO files; knows no network."""

from queryinst_vis.evaluation.coco import evaluate_coco
from queryinst_vis.evaluation.youtube_vis import evaluate_youtube_vis

__all__ = ["evaluate_coco", "evaluate_youtube_vis"]
