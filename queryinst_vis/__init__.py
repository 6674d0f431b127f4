"""QueryInst and QueryInst-VIS: instances as queries, tracked through video.

Example::

    import queryinst_vis

    queryinst_vis.detect("photo.jpg").plot().save("found.png")

    for result in queryinst_vis.track("street.mp4", conf=0.5):
        print(result.seconds, result.detections.track_ids, result.detections.boxes)

``Detector`` and ``VideoTracker`` do the same with weights that are loaded once.

Every name is imported on first use, so that ``queryinst-vis --help`` need not load torch.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from queryinst_vis.checkpoints.convert import convert_checkpoint as convert_checkpoint
    from queryinst_vis.checkpoints.load import load_model as load_model
    from queryinst_vis.config import Config as Config
    from queryinst_vis.config import load_config as load_config
    from queryinst_vis.errors import InputError as InputError
    from queryinst_vis.evaluation.coco import evaluate_coco as evaluate_coco
    from queryinst_vis.evaluation.tracking_metrics import evaluate_tracking as evaluate_tracking
    from queryinst_vis.evaluation.youtube_vis import evaluate_youtube_vis as evaluate_youtube_vis
    from queryinst_vis.inference.any_detector import FunctionDetector as FunctionDetector
    from queryinst_vis.inference.calls import detect as detect
    from queryinst_vis.inference.calls import track as track
    from queryinst_vis.inference.detector import Detector as Detector
    from queryinst_vis.inference.onnx_export import export_onnx as export_onnx
    from queryinst_vis.inference.openvino_export import export_openvino as export_openvino
    from queryinst_vis.inference.result import FrameResult as FrameResult
    from queryinst_vis.inference.tracker import VideoTracker as VideoTracker
    from queryinst_vis.models.build import build_model as build_model
    from queryinst_vis.report.outputs import track_video as track_video
    from queryinst_vis.structures import Detections as Detections
    from queryinst_vis.training.finetune import finetune as finetune
    from queryinst_vis.training.train import train as train
else:
    from importlib import import_module

    _MODULES = {
        "Config": "config",
        "Detections": "structures",
        "Detector": "inference.detector",
        "FunctionDetector": "inference.any_detector",
        "FrameResult": "inference.result",
        "InputError": "errors",
        "VideoTracker": "inference.tracker",
        "build_model": "models.build",
        "convert_checkpoint": "checkpoints.convert",
        "detect": "inference.calls",
        "evaluate_coco": "evaluation.coco",
        "evaluate_tracking": "evaluation.tracking_metrics",
        "evaluate_youtube_vis": "evaluation.youtube_vis",
        "export_onnx": "inference.onnx_export",
        "export_openvino": "inference.openvino_export",
        "finetune": "training.finetune",
        "load_config": "config",
        "load_model": "checkpoints.load",
        "track": "inference.calls",
        "track_video": "report.outputs",
        "train": "training.train",
    }

    __all__ = sorted(_MODULES)

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

    def __dir__():
        return [*globals(), *_MODULES]
