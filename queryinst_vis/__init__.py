"""QueryInst and QueryInst-VIS: instances as queries, tracked through video.

Example::

    import queryinst_vis

    detector = queryinst_vis.Detector.from_pretrained("people")
    print(detector.detect("photo.jpg"))

    tracker = queryinst_vis.VideoTracker.from_pretrained("people")
    for frame, detections in tracker.stream("street.mp4"):
        print(detections.track_ids, detections.boxes)

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
    from queryinst_vis.inference.detector import Detector as Detector
    from queryinst_vis.inference.onnx_export import export_onnx as export_onnx
    from queryinst_vis.inference.tracker import VideoTracker as VideoTracker
    from queryinst_vis.models.build import build_model as build_model
    from queryinst_vis.structures import Detections as Detections
    from queryinst_vis.training.train import train as train
else:
    from importlib import import_module

    _MODULES = {
        "Config": "config",
        "Detections": "structures",
        "Detector": "inference.detector",
        "FunctionDetector": "inference.any_detector",
        "InputError": "errors",
        "VideoTracker": "inference.tracker",
        "build_model": "models.build",
        "convert_checkpoint": "checkpoints.convert",
        "evaluate_coco": "evaluation.coco",
        "evaluate_tracking": "evaluation.tracking_metrics",
        "evaluate_youtube_vis": "evaluation.youtube_vis",
        "export_onnx": "inference.onnx_export",
        "load_config": "config",
        "load_model": "checkpoints.load",
        "train": "training.train",
    }

    __all__ = sorted(_MODULES)

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

    def __dir__():
        return [*globals(), *_MODULES]
