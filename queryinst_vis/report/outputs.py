"""All that ``track`` can write: the files of ``inference``, and those that show them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial, update_wrapper
from types import MappingProxyType

from queryinst_vis.inference import track
from queryinst_vis.inference.outputs import OUTPUTS, OutputKind
from queryinst_vis.report.rerun_recording import RerunRecording
from queryinst_vis.report.tracked_video import TrackedVideoPage

ALL_OUTPUTS: Mapping[str, OutputKind] = MappingProxyType(
    {
        **OUTPUTS,
        "report": OutputKind(TrackedVideoPage, ("{name}.html",), "page that plays the tracks"),
        "rrd": OutputKind(RerunRecording, ("{name}.rrd",), "recording for the Rerun Viewer"),
    }
)
"""What ``track --save`` may name."""

track_video = partial(track.track_video, kinds=ALL_OUTPUTS)
update_wrapper(track_video, track.track_video)
