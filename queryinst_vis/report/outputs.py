"""All outputs of ``track``: the files of ``inference``, HTML pages and Rerun recordings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial, update_wrapper
from pathlib import Path
from types import MappingProxyType

from queryinst_vis.inference import track
from queryinst_vis.inference.outputs import OUTPUTS, Output, OutputContext, OutputKind
from queryinst_vis.report.rerun_recording import RerunRecording


def _page(context: OutputContext, path: Path) -> Output:
    from queryinst_vis.report.tracked_video import TrackedVideoPage

    return TrackedVideoPage(context, path)


ALL_OUTPUTS: Mapping[str, OutputKind] = MappingProxyType(
    {
        **OUTPUTS,
        "report": OutputKind(_page, ("{name}.html",), "HTML page with a player"),
        "rrd": OutputKind(RerunRecording, ("{name}.rrd",), "recording for the Rerun Viewer"),
    }
)
"""The values of ``track --save``."""

track_video = partial(track.track_video, kinds=ALL_OUTPUTS)
update_wrapper(track_video, track.track_video)
