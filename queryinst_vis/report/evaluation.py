"""The HTML report of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.average_precision import METRICS
from queryinst_vis.evaluation.confidence import SAMPLES, compare_results, verdict
from queryinst_vis.evaluation.report import percent
from queryinst_vis.evaluation.tracking_metrics import confident
from queryinst_vis.report.assessment import Assessment, assess_images, assess_videos
from queryinst_vis.report.clips import FPS, Clip, make_clip
from queryinst_vis.report.evaluation_tables import (
    attributes_table,
    classes_table,
    comparison_table,
    error_types_table,
    metrics_table,
    videos_table,
)
from queryinst_vis.report.image_sets import (
    annotations_as_videos,
    is_image_set,
    results_as_videos,
)
from queryinst_vis.report.page import render_page, write_page
from queryinst_vis.utils.progress import show_progress
from queryinst_vis.visualization.charts import Chart
from queryinst_vis.visualization.error_report import (
    breakdown_chart,
    counts_chart,
    waterfall_chart,
)
from queryinst_vis.visualization.evaluation_charts import (
    class_chart,
    class_precision_recall_chart,
    confusion_chart,
    hota_chart,
    precision_recall_chart,
)

THRESHOLD = 0.3
"""Minimum score of tracks in clips, HOTA and IDF1: the default of ``track --conf``."""
CLIPS = 6
"""Default number of clips."""

HEADLINE = ("AP", "AP50", "AR10", "HOTA", "IDF1")
"""Metrics in the headline; images have no tracking metrics."""


def write_evaluation_page(
    gt: str | Path,
    results: str | Path,
    out: str | Path,
    other: str | Path | None = None,
    *,
    images: str | Path | None = None,
    threshold: float = THRESHOLD,
    clips: int = CLIPS,
    samples: int = SAMPLES,
    workers: int = 1,
    allow_outside: bool = False,
) -> None:
    """Write the report of a YouTube-VIS or COCO result file, or a comparison of two.

    Args:
        gt: annotations, as for ``evaluate_youtube_vis`` or ``evaluate_coco`` (masks only).
        results: the result file, or a zip with ``results.json`` at its root.
        out: the HTML file; written completely or not at all.
        other: a second result file for the same videos.
        images: image folder of the annotations; None: no clips.
        threshold: minimum score of tracks for HOTA, IDF1 and clips.
        clips: number of clips, of the videos that cost the first result file most AP.
        samples: number of bootstrap resamples for 95 % intervals and the comparison.
        workers: number of processes.
        allow_outside: allow image file names outside ``images``.

    Raises:
        InputError: a file is invalid, or the report cannot be written.
    """
    paths = [Path(path) for path in (results, other) if path is not None]
    of_images = is_image_set(Path(gt))
    assessments = [
        assess_images(Path(gt), path, name, workers, samples)
        if of_images
        else assess_videos(Path(gt), path, name, threshold, workers, samples)
        for path, name in zip(paths, _names(paths), strict=True)
    ]
    first = assessments[0]
    comparison = None
    if other is not None and len(first.video_set) > 1:
        comparison = _compare(Path(gt), paths, of_images, samples, workers)
    shown = []
    if images is not None:
        shown = _clips(assessments, Path(images), threshold, clips, allow_outside)
    context = {
        "ground_truth": Path(gt).name,
        "videos": first.video_set.summary,
        "unit": "image" if of_images else "video",
        "threshold": threshold,
        "samples": samples,
        "results": assessments,
        "headline": _headline(assessments),
        "verdict": None if comparison is None else verdict(comparison),
        "comparison": None if comparison is None else comparison_table(comparison),
        "causes": error_types_table(assessments),
        "clips": shown,
        "images": images is not None,
        "metrics": metrics_table(assessments),
        "classes": classes_table(assessments),
        "attributes": attributes_table(assessments),
        "by_video": videos_table(assessments, "image" if of_images else "video"),
        "data": {"clips": [{"media": clip.media, "fps": FPS} for _, _, clip in shown]},
    }
    title = f"Evaluation of {' and '.join(each.name for each in assessments)}"
    html = render_page(
        "evaluation.html.j2",
        title,
        context,
        scripts=("clips.js",),
        charts=_charts(assessments),
    )
    write_page(out, html)


def _headline(assessments: Sequence[Assessment]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The metrics of ``HEADLINE``, each with the name, value and interval of every result file."""
    return [
        (
            metric,
            [
                (each.name, percent(each.values[metric]), each.interval(metric))
                for each in assessments
            ],
        )
        for metric in HEADLINE
        if metric in assessments[0].values
    ]


def _names(paths: Sequence[Path]) -> list[str]:
    """The file names, with as many parent folders as needed to distinguish them."""
    for depth in range(1, 1 + max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise InputError(f"{paths[0]}: is compared with itself; give two different result files")


def _compare(
    gt: Path, paths: Sequence[Path], of_images: bool, samples: int, workers: int
) -> dict[str, Any]:
    """The paired bootstrap of two result files; for images without metrics by area."""
    if not of_images:
        return compare_results(gt, paths[0], paths[1], samples, workers=workers)
    a, b = (results_as_videos(path) for path in paths)
    found = compare_results(annotations_as_videos(gt), a, b, samples, workers=workers)
    of_all = {k: v for k, v in found["metrics"].items() if METRICS[k].area_range == "all"}
    return {**found, "metrics": of_all}


def _charts(assessments: Sequence[Assessment]) -> dict[str, Chart]:
    curves = {each.name: each.diagnosis["precision_recall"] for each in assessments}
    charts: dict[str, Chart] = {
        "precision_recall": precision_recall_chart(curves).properties(height=300),
        "class_precision_recall": class_precision_recall_chart(curves).properties(height=300),
        "classes": class_chart({each.name: each.precision["per_class_AP"] for each in assessments}),
    }
    tracked = {each.name: each.tracking["curves"] for each in assessments if each.tracking}
    if tracked:
        charts["hota"] = hota_chart(tracked).properties(height=300)
    for number, each in enumerate(assessments):
        report = each.diagnosis
        charts[f"waterfall_{number}"] = waterfall_chart(report).properties(height=240)
        charts[f"breakdown_{number}"] = breakdown_chart(report["breakdown"]).properties(height=240)
        charts[f"counts_{number}"] = counts_chart(report["detections"])
        charts[f"confusion_{number}"] = confusion_chart(report["confusion"])
    return charts


def _clips(
    assessments: Sequence[Assessment], images: Path, threshold: float, number: int, outside: bool
) -> list[tuple[str, float, Clip]]:
    """The worst videos of the first result file: name, AP lost, and clip."""
    first = assessments[0]
    lost = first.diagnosis["lost_per_video"]
    worst = [name for name in sorted(lost, key=lambda name: -lost[name]) if lost[name] > 0]
    index_of = {first.video_set.names[v.id]: k for k, v in enumerate(first.video_set.videos)}
    unread = [each.video_set.unread() for each in assessments]
    clips = []
    for name in show_progress(worst[:number], "Rendering clips"):
        tracks = {
            each.name: confident(videos[index_of[name]].read(), threshold)
            for each, videos in zip(assessments, unread, strict=True)
        }
        clip = make_clip(tracks, first.video_set.categories, images, allow_outside=outside)
        clips.append((name, lost[name], clip))
    return clips
