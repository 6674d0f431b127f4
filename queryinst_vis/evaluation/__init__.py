"""Metrics and error analysis of result files against annotation files, without torch."""

from queryinst_vis.evaluation.cityscapes import evaluate_cityscapes, write_cityscapes_zip
from queryinst_vis.evaluation.coco import evaluate_coco
from queryinst_vis.evaluation.confidence import compare_results, evaluate_with_confidence
from queryinst_vis.evaluation.diagnosis import diagnose
from queryinst_vis.evaluation.tracking_metrics import evaluate_tracking
from queryinst_vis.evaluation.youtube_vis import evaluate_youtube_vis

__all__ = [
    "compare_results",
    "diagnose",
    "evaluate_cityscapes",
    "evaluate_coco",
    "evaluate_tracking",
    "evaluate_with_confidence",
    "evaluate_youtube_vis",
    "write_cityscapes_zip",
]
