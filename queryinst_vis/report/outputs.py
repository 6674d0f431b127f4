"""All outputs of ``track``: the files of ``inference``, HTML pages and Rerun recordings."""

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
        "report": OutputKind(TrackedVideoPage, ("{name}.html",), "HTML page with a player"),
        "rrd": OutputKind(RerunRecording, ("{name}.rrd",), "recording for the Rerun Viewer"),
    }
)
"""The values of ``track --save``."""

track_video = partial(track.track_video, kinds=ALL_OUTPUTS)
update_wrapper(track_video, track.track_video)
