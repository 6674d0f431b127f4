"""Parity of the tracking metrics with trackeval, on the same masks.

Two comparisons: MOTS, with disjoint masks as text and ground truth with ignore regions, read by
trackeval's ``KittiMOTS``; and YouTube-VIS, with overlapping masks and without ignore regions, read
by its ``YouTubeVIS``. Differences are maxima over classes, videos and all of trackeval's averages;
exit status 1 if one exceeds 1e-9. Not part of the tests, which contain trackeval's numbers in
``tests/data/trackeval_*.json``; to compare with the package::

    pip install -e . trackeval tabulate
    python benchmarks/peers/trackeval_parity.py                    # generated videos
    queryinst-vis convert-dataset mots data/mots work/mots.json
    python benchmarks/peers/trackeval_parity.py work/mots.json     # perturbed ground truth
    python benchmarks/peers/trackeval_parity.py gt.json --results results.json
    python benchmarks/peers/trackeval_parity.py --freeze tests/data
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from trackeval.datasets import KittiMOTS, YouTubeVIS
from trackeval.metrics import CLEAR, HOTA, Identity
from trackeval_cases import generate_ground_truth, perturb, without_crowd

from queryinst_vis.data.convert.to_mots import convert_to_mots
from queryinst_vis.evaluation.tracking_metrics import evaluate_tracking
from queryinst_vis.formats.convert_results import convert_results
from queryinst_vis.masks import decode_rle
from queryinst_vis.utils.files import read_json, write_json_atomically

TOLERANCE = 1e-9
METRICS = (HOTA, Identity, CLEAR)
CURVES = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA")
NAMES = {name: name for name in ("IDF1", "IDR", "IDP", "IDTP", "IDFN", "IDFP")} | {
    name: name for name in ("MOTA", "sMOTA", "MOTP", "IDSW", "Frag", "MT", "PT", "ML")
}
NAMES |= {"TP": "CLR_TP", "FN": "CLR_FN", "FP": "CLR_FP"}

Scores = dict[str, Any]
"""The result of ``evaluate_tracking``, or trackeval's numbers in the same form."""


def compare_as_mots(gt: Scores, results: list[dict], folder: Path) -> tuple[list[dict], Scores]:
    """Results with disjoint masks, and trackeval's numbers for them."""
    gt_path, found, disjoint = (folder / f"{name}.json" for name in ("gt", "results", "disjoint"))
    write_json_atomically(gt_path, {**gt, "videos": [_renumbered(video) for video in gt["videos"]]})
    write_json_atomically(found, results)
    mots = folder / "trackers" / "ours" / "data"
    convert_results(found, mots, gt_path)
    convert_results(mots, disjoint, gt_path)
    convert_to_mots(gt_path, folder / "gt", form="txt")
    dataset = KittiMOTS(
        {
            "GT_FOLDER": str(folder / "gt"),
            "GT_LOC_FORMAT": "{gt_folder}/instances_txt/{seq}.txt",
            "TRACKERS_FOLDER": str(folder / "trackers"),
            "TRACKERS_TO_EVAL": ["ours"],
            "CLASSES_TO_EVAL": ["car", "pedestrian"],
            "SEQ_INFO": {_sequence(video): video["length"] for video in gt["videos"]},
            "PRINT_CONFIG": False,
        }
    )
    numbers = _run(dataset, gt, {"car": "car", "pedestrian": "person"})
    return read_json(disjoint, "results"), numbers


def _sequence(video: dict) -> str:
    return video["file_names"][0].split("/")[0]


def _renumbered(video: dict) -> dict:
    """The video with frames numbered 0, 1, 2, ..., as expected by trackeval."""
    names = [f"{_sequence(video)}/{frame:06d}.jpg" for frame in range(video["length"])]
    return {**video, "file_names": names}


def compare_as_youtube_vis(gt: Scores, results: list[dict], folder: Path) -> Scores:
    """trackeval's numbers for overlapping masks."""
    plain = [
        {
            **track,
            "segmentations": [mask and _uncompressed(mask) for mask in track["segmentations"]],
        }
        for track in gt["annotations"]
    ]
    gt_path = folder / "youtube_vis_ours" / "gt.json"
    found = folder / "trackers" / "youtube_vis_ours" / "ours" / "data" / "results.json"
    write_json_atomically(gt_path, {**gt, "annotations": plain})
    write_json_atomically(found, results)
    dataset = YouTubeVIS(
        {
            "GT_FOLDER": f"{folder}/",
            "TRACKERS_FOLDER": f"{folder}/trackers/",
            "SPLIT_TO_EVAL": "ours",
            "PRINT_CONFIG": False,
        }
    )
    return _run(dataset, gt, {name: name for name in dataset.class_list})


def _uncompressed(mask: dict) -> dict:
    """Uncompressed run lengths, the only ones that trackeval reads in ground truth."""
    runs = np.flatnonzero(np.diff(decode_rle(mask).ravel(order="F"), prepend=0, append=0))
    height, width = mask["size"]
    edges = [0, *runs.tolist(), height * width]
    counts = np.diff(edges).tolist()
    return {"size": [height, width], "counts": counts}


def _run(dataset: Any, gt: Scores, names: dict[str, str]) -> Scores:
    """Evaluate every sequence and class; ``names`` maps trackeval's class names to ours."""
    metrics = [metric({"PRINT_CONFIG": False}) for metric in METRICS]
    found: dict[str, dict[str, list]] = {}
    for sequence in dataset.seq_list:
        raw = dataset.get_raw_seq_data("ours", sequence)
        found[sequence] = {}
        for label in names:
            data = dataset.get_preprocessed_seq_data(raw, label)
            found[sequence][label] = [metric.eval_sequence(data) for metric in metrics]
    classes = {
        name: [
            metric.combine_sequences({s: found[s][label][i] for s in found})
            for i, metric in enumerate(metrics)
        ]
        for label, name in names.items()
    }

    def pool(parts: dict[str, list], how: str, **options: bool) -> Scores:
        pooled = [
            getattr(metric, how)({key: value[i] for key, value in parts.items()}, **options)
            for i, metric in enumerate(metrics)
        ]
        return _scores(pooled)

    ids = {_sequence(video): video["id"] for video in gt["videos"]}
    videos = {ids[s]: pool(found[s], "combine_classes_det_averaged") for s in found}
    return {
        "class_averaged": pool(
            classes, "combine_classes_class_averaged", ignore_empty_classes=True
        ),
        "detection_averaged": pool(classes, "combine_classes_det_averaged"),
        "per_class": {name: _scores(parts) for name, parts in classes.items()},
        "per_video": [
            {"video_id": id_, **videos[id_]} for id_ in sorted(videos) if _num_masks(videos[id_])
        ],
        "curves": {
            name: {curve: parts[0][curve].tolist() for curve in CURVES}
            for name, parts in classes.items()
        },
    }


def _scores(parts: list[dict]) -> dict[str, float]:
    """trackeval's metrics by our names."""
    hota, identity, clear = parts
    means = {name: float(np.mean(hota[name])) for name in CURVES}
    rest = {ours: float({**identity, **clear}[theirs]) for ours, theirs in NAMES.items()}
    return {**means, **rest}


def _num_masks(scores: dict[str, float]) -> float:
    return scores["TP"] + scores["FN"] + scores["FP"]


def differences(ours: Scores, theirs: Scores) -> dict[str, float]:
    """The largest absolute difference of each metric over classes, videos and poolings."""
    largest: dict[str, float] = {}

    def compare(found: dict[str, Any], expected: dict[str, Any]) -> None:
        for name in expected.keys() - {"video_id"}:
            gap = float(np.abs(np.subtract(found[name], expected[name])).max())
            largest[name] = max(gap, largest.get(name, 0.0))

    for pooling in ("class_averaged", "detection_averaged"):
        compare(ours[pooling], theirs[pooling])
    for part in ("per_class", "curves"):
        for name, expected in theirs[part].items():
            if _num_masks(theirs["per_class"][name]):
                compare(ours[part][name], expected)
            elif ours["per_class"][name] is not None:
                raise ValueError(f"class {name}: has masks here, but none in trackeval")
    for found, expected in zip(ours["per_video"], theirs["per_video"], strict=True):
        compare(found, expected)
    return largest


def main() -> int:
    """Compare in both formats and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gt", nargs="?", type=Path, metavar="GT.json", help="YouTube-VIS file")
    parser.add_argument("--results", type=Path, help="results (default: perturbed ground truth)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the generated data")
    parser.add_argument("--freeze", type=Path, metavar="DIR", help="write cases for the tests")
    arguments = parser.parse_args()
    gt = read_json(arguments.gt, "gt") if arguments.gt else generate_ground_truth(arguments.seed)
    results = perturb(gt, arguments.seed + 1)
    if arguments.results:
        results = read_json(arguments.results, "results")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        root = Path(folder)
        disjoint, mots = compare_as_mots(gt, results, root / "mots")
        vis = compare_as_youtube_vis(without_crowd(gt), results, root / "vis")
    cases = {"mots": (gt, disjoint, mots), "youtube_vis": (without_crowd(gt), results, vis)}
    if arguments.freeze:
        for name, (ground_truth, found, expected) in cases.items():
            content = {"gt": ground_truth, "results": found, "expected": expected}
            write_json_atomically(arguments.freeze / f"trackeval_{name}.json", content)
    table = Table("metric")
    rows: dict[str, list[str]] = {name: [] for name in (*CURVES, *NAMES)}
    largest = 0.0
    for name, (ground_truth, found, expected) in cases.items():
        ours = evaluate_tracking(ground_truth, found)
        gaps = differences(ours, expected)
        largest = max(largest, *gaps.values())
        table.add_column(name, justify="right")
        table.add_column("difference", justify="right")
        for metric, row in rows.items():
            row += [f"{ours['detection_averaged'][metric]:.6g}", f"{gaps[metric]:.1e}"]
    for metric, row in rows.items():
        table.add_row(metric, *row)
    Console().print(table)
    return int(largest > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
