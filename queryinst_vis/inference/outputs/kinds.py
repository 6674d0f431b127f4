"""The table of outputs: a new one is a class and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from queryinst_vis.inference.outputs.annotated_video import AnnotatedVideo
from queryinst_vis.inference.outputs.output import OutputKind
from queryinst_vis.inference.outputs.results import Timeline, YoutubeVisResults

OUTPUTS: Mapping[str, OutputKind] = MappingProxyType(
    {
        "video": OutputKind(AnnotatedVideo, ("{name}.mp4",)),
        "json": OutputKind(YoutubeVisResults, ("results.json",)),
        "timeline": OutputKind(Timeline, ("timeline.png",)),
    }
)
"""What ``track --save`` may name."""

DEFAULT_SAVE = ("video", "json", "timeline")
"""What is written unless the user says otherwise."""
