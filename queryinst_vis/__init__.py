"""QueryInst and QueryInst-VIS: instances as queries, tracked through video.

Example::

    import queryinst_vis

    tracker = queryinst_vis.VideoTracker.from_pretrained("people")
    for frame, detections in tracker.stream("street.mp4"):
        print(detections.track_ids, detections.boxes)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    "Config": "config",
    "Detections": "structures",
    "InputError": "errors",
    "VideoTracker": "inference.tracker",
    "build_model": "models.build",
    "evaluate_coco": "evaluation",
    "evaluate_youtube_vis": "evaluation",
    "load_config": "config",
    "load_model": "checkpoints.load",
}

__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: ``--help`` need not wait for torch."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_ROOMS]
