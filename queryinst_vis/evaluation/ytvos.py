"""Drop-in ``YTVOS`` and ``YTVOSeval``.

Scripts written for ``pycocotools.ytvos`` and ``pycocotools.ytvoseval`` of the YouTube-VIS API only
need another import::

    from queryinst_vis.evaluation.ytvos import YTVOS, YTVOSeval

    ground_truth = YTVOS("train.json")
    evaluation = YTVOSeval(ground_truth, ground_truth.loadRes("results.json"), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    print(evaluation.stats)

Names and argument order are those of the API, the numbers those of ``evaluate_youtube_vis``.
"""

from queryinst_vis.evaluation.ytvos_annotations import YTVOS
from queryinst_vis.evaluation.ytvos_evaluation import Params, YTVOSeval

__all__ = ["YTVOS", "Params", "YTVOSeval"]
