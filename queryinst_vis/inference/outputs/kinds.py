"""The table of outputs. A new one is a class or function, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from queryinst_vis.formats.track_tables import import_pyarrow
from queryinst_vis.inference.outputs.annotated_video import AnnotatedVideo
from queryinst_vis.inference.outputs.crops import Crops
from queryinst_vis.inference.outputs.from_tracks import (
    from_tracks,
    write_coco_video,
    write_csv_tables,
    write_lines,
    write_mots,
    write_parquet_tables,
    write_timeline,
    write_youtube_vis,
)
from queryinst_vis.inference.outputs.mattes import Mattes
from queryinst_vis.inference.outputs.output import OutputKind

OUTPUTS: Mapping[str, OutputKind] = MappingProxyType(
    {
        "video": OutputKind(AnnotatedVideo, ("{name}.mp4",), "annotated video"),
        "json": OutputKind(
            from_tracks(write_youtube_vis), ("results.json",), "YouTube-VIS results"
        ),
        "jsonl": OutputKind(from_tracks(write_lines), ("tracks.jsonl",), "tracks, frame by frame"),
        "timeline": OutputKind(
            from_tracks(write_timeline), ("timeline.png",), "when each track is visible"
        ),
        "csv": OutputKind(from_tracks(write_csv_tables), ("tracks.csv", "detections.csv"), "table"),
        "parquet": OutputKind(
            from_tracks(write_parquet_tables, import_pyarrow),
            ("tracks.parquet", "detections.parquet"),
            "table",
        ),
        "mots": OutputKind(from_tracks(write_mots), ("mots/{name}.txt",), "MOTS text"),
        "coco-video": OutputKind(
            from_tracks(write_coco_video), ("coco_video.json",), "COCO-video annotations"
        ),
        "crops": OutputKind(Crops, ("crops/",), "best pictures of each track"),
        "mattes": OutputKind(Mattes, ("{name}_matte.mp4",), "white where instances are"),
    }
)
"""Outputs by name, as for ``track --save``."""
