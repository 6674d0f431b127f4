"""``YTVOSeval``: YouTube-VIS AP with the interface (and camel case) of YouTube-VIS's API.

Names and array shapes are those of the API; ``youtube_vis`` and ``average_precision`` compute the
numbers.
"""
# ruff: noqa: N803, N815

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation.average_precision import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    METRICS,
    RECALL_POINTS,
    Matches,
    Metric,
    mean_defined,
    pool_detections,
)
from queryinst_vis.evaluation.overlaps import track_ious
from queryinst_vis.evaluation.youtube_vis import (
    AREA_RANGES,
    Criteria,
    best_detections,
    match_tracks,
)
from queryinst_vis.evaluation.ytvos_annotations import YTVOS
from queryinst_vis.formats.video_set import UnreadVideo, VideoSet, VideoTracks
from queryinst_vis.utils.progress import show_progress

ALL_CLASSES = -1
"""Id of the single class if ``useCats`` is 0."""


@dataclass
class Params:
    """Evaluation settings; change them before ``evaluate``.

    Attributes:
        vidIds, catIds: default: all in the ground truth.
        iouThrs: ``(T,)`` IoU thresholds.
        recThrs: ``(R,)`` recall points.
        maxDets: maximum numbers of detections per video and class; the largest limits the matching.
        areaRng: bounds of the mean mask area in pixels, both inclusive.
        areaRngLbl: names of the area ranges.
        useCats: 0 to ignore classes.
        iouType: always "segm".
    """

    vidIds: list[int] = field(default_factory=list)
    catIds: list[int] = field(default_factory=list)
    iouThrs: np.ndarray = field(default_factory=IOU_THRESHOLDS.copy)
    recThrs: np.ndarray = field(default_factory=RECALL_POINTS.copy)
    maxDets: list[int] = field(default_factory=lambda: list(MAX_DETECTIONS))
    areaRng: list[list[float]] = field(default_factory=lambda: [*map(list, AREA_RANGES.values())])
    areaRngLbl: list[str] = field(default_factory=lambda: list(AREA_RANGES))
    useCats: int = 1
    iouType: str = "segm"


class YTVOSeval:
    """Evaluation by ``evaluate()``, ``accumulate()`` and ``summarize()``.

    Attributes:
        params: see ``Params``.
        ious: after ``evaluate``: ``(detections, ground-truth tracks)`` by (video id, category id),
            detections by descending score; no key if a video has neither.
        eval: after ``accumulate``: ``precision`` and ``scores`` ``(T, R, K, A, M)``, ``recall``
            ``(T, K, A, M)``, -1 without ground truth, ``counts`` [T, R, K, A, M], ``params``,
            ``date``. K: classes, A: area ranges, M: ``maxDets``.
        stats: after ``summarize``: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm,
            ARl, -1 where undefined.

    Example::

        ground_truth = YTVOS("ground_truth.json")
        evaluation = YTVOSeval(ground_truth, ground_truth.loadRes("results.json"), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    """

    def __init__(
        self, vosGt: YTVOS | None = None, vosDt: YTVOS | None = None, iouType: str = "segm"
    ) -> None:
        """Use ground truth and results from its ``loadRes``.

        Raises:
            InputError: ``iouType`` is not "segm".
        """
        self.cocoGt, self.cocoDt = vosGt, vosDt
        self.params = Params(iouType=iouType)
        self.ious: dict[tuple[int, int], np.ndarray] = {}
        self.eval: dict[str, Any] = {}
        self.stats = np.array([])
        self._matches: dict[tuple[int, str], list[Matches]] | None = None
        self._evaluated = self.params
        if vosGt is not None:
            self.params.vidIds = sorted(vosGt.getVidIds())
            self.params.catIds = sorted(vosGt.getCatIds())
        _check(self.params)

    def evaluate(self) -> None:
        """Match the detections of every video in ``params.vidIds``.

        Raises:
            InputError: ground truth, results or ``params`` are missing or invalid.
        """
        if self.cocoGt is None or self.cocoDt is None:
            raise InputError("YTVOSeval: needs ground truth and results to evaluate")
        _check(self.params)
        params = self.params
        params.vidIds = np.unique(params.vidIds).tolist()
        params.catIds = np.unique(params.catIds).tolist()
        params.maxDets = sorted(params.maxDets)
        criteria = _criteria(params)
        self.ious, self.eval, self._matches = {}, {}, {}
        videos = self._chosen_videos(self.cocoGt, self.cocoDt)
        for video in show_progress(videos, "Comparing tracks"):
            tracks = _select_classes(video.read(), params)
            for category, class_tracks in tracks.by_class().items():
                ranked = best_detections(class_tracks, criteria.max_detections)
                ious = track_ious(ranked.detections, ranked.ground_truth)
                self.ious[video.video.id, category] = ious
                for name, matches in match_tracks(ranked, ious, criteria).items():
                    self._matches.setdefault((category, name), []).append(matches)
        self._evaluated = copy.deepcopy(params)

    def _chosen_videos(self, ground_truth: YTVOS, detections: YTVOS) -> list[UnreadVideo]:
        video_set = VideoSet(ground_truth.dataset, detections.dataset.get("annotations", []))
        known = {video.id for video in video_set.videos}
        for name, ids, all_ids in (
            ("vidIds", self.params.vidIds, known),
            ("catIds", self.params.catIds, video_set.categories),
        ):
            unknown = [id_ for id_ in ids if id_ not in all_ids]
            if unknown or not ids:
                raise InputError(f"params.{name}: must be ids of the ground truth, has {unknown}")
        chosen = set(self.params.vidIds)
        return [video for video in video_set.unread() if video.video.id in chosen]

    def accumulate(self) -> None:
        """Pool the videos into ``eval``.

        Raises:
            InputError: ``evaluate`` has not been run, or ``params`` have changed since.
        """
        if self._matches is None:
            raise InputError("YTVOSeval: run evaluate() before accumulate()")
        if not _are_equal(self.params, self._evaluated):
            raise InputError("YTVOSeval: params changed since evaluate(); run it again")
        params = self.params
        classes = params.catIds if params.useCats else [ALL_CLASSES]
        counts = [
            *(len(params.iouThrs), len(params.recThrs), len(classes)),
            *(len(params.areaRng), len(params.maxDets)),
        ]
        precision, scores = np.empty(counts), np.empty(counts)
        recall = np.empty([counts[0], *counts[2:]])
        for k, category in enumerate(classes):
            for a, name in enumerate(params.areaRngLbl):
                videos = self._matches.get((category, name), [])
                for m, limit in enumerate(params.maxDets):
                    curve = pool_detections(
                        videos, limit, np.asarray(params.iouThrs), np.asarray(params.recThrs)
                    )
                    precision[:, :, k, a, m] = curve.precision
                    scores[:, :, k, a, m] = curve.scores
                    recall[:, k, a, m] = curve.recall
        self.eval = {
            "params": params,
            "counts": counts,
            "date": datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            "precision": precision,
            "recall": recall,
            "scores": scores,
        }

    def summarize(self) -> None:
        """Print the twelve metrics and store them in ``stats``.

        Raises:
            InputError: ``accumulate`` has not been run, or ``params.maxDets`` has fewer than three.
        """
        if not self.eval:
            raise InputError("YTVOSeval: run accumulate() before summarize()")
        if len(self.params.maxDets) != 3:
            raise InputError("params.maxDets: summarize() needs three limits, such as [1, 10, 100]")
        self.stats = np.array([self._mean(metric) for metric in METRICS.values()])

    def _mean(self, metric: Metric) -> float:
        """Average an array of ``eval``, print the mean and return it."""
        params = self.params
        area, threshold, limit = metric.area_range, metric.threshold, params.maxDets[metric.limit]
        values = self.eval[metric.curve]
        if threshold is not None:
            values = values[np.asarray(params.iouThrs) == threshold]
        areas = [a for a, name in enumerate(params.areaRngLbl) if name == area]
        mean = mean_defined(values[..., areas, metric.limit])
        kind = "Precision  (AP)" if metric.curve == "precision" else "Recall     (AR)"
        ious = (
            f"{params.iouThrs[0]:.2f}:{params.iouThrs[-1]:.2f}"
            if threshold is None
            else f"{threshold:.2f}"
        )
        print(
            f" Average {kind} @[ IoU={ious:<9} | area={area:>6} | maxDets={limit:>3} ] = {mean:.3f}"
        )
        return mean


def _select_classes(tracks: VideoTracks, params: Params) -> VideoTracks:
    """The tracks of ``catIds``; without ``useCats``, as one class, sorted by class id."""
    lists = [
        [track for track in side if track.category_id in set(params.catIds)]
        for side in (tracks.ground_truth, tracks.detections)
    ]
    if not params.useCats:
        lists = [
            [
                replace(track, category_id=ALL_CLASSES)
                for track in sorted(side, key=lambda track: track.category_id)
            ]
            for side in lists
        ]
    return VideoTracks(tracks.video, *lists)


def _criteria(params: Params) -> Criteria:
    ranges = {
        name: (float(low), float(high))
        for name, (low, high) in zip(params.areaRngLbl, params.areaRng, strict=True)
    }
    return Criteria(np.asarray(params.iouThrs, dtype=float), params.maxDets[-1], ranges)


def _check(params: Params) -> None:
    """Raise an InputError for invalid settings."""
    if params.iouType != "segm":
        raise InputError(f"params.iouType: only 'segm' is evaluated, not {params.iouType!r}")
    for name in ("iouThrs", "recThrs"):
        values = np.asarray(getattr(params, name))
        is_numbers = values.ndim == 1 and values.dtype.kind in "if"
        if not is_numbers or not len(values) or (np.diff(values) < 0).any():
            raise InputError(f"params.{name}: must be ascending numbers")
        if values[0] < 0 or values[-1] > 1:
            raise InputError(f"params.{name}: must lie between 0 and 1")
    if not params.maxDets or not all(isinstance(n, int) and n > 0 for n in params.maxDets):
        raise InputError("params.maxDets: must be positive integers")
    names = params.areaRngLbl
    if not names or len(names) != len(params.areaRng) or len(set(names)) != len(names):
        raise InputError("params.areaRng: needs one range per name in areaRngLbl (distinct names)")
    if not all(len(bounds) == 2 for bounds in params.areaRng):
        raise InputError("params.areaRng: every range needs two bounds")


def _are_equal(a: Params, b: Params) -> bool:
    return all(np.array_equal(vars(a)[name], vars(b)[name]) for name in vars(a))
