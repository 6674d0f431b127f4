"""YouTube-VIS AP against a plain implementation, on some hundreds of random data sets.

Masks are made of 100x100 pixel cells, so that the plain implementation can work on small
boolean grids while areas reach all ranges.
"""

import numpy as np
import pytest

from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.masks import encode_rle

CELL = 100
ROWS, COLUMNS = 4, 3
THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
RANGES = {"": (0, 1e10), "s": (0, 128**2), "m": (128**2, 256**2), "l": (256**2, 1e10)}


def random_data_set(rng):
    """Cell-grid tracks: ``(truths, detections)`` of up to 3 videos, 2 classes and 4 frames."""
    lengths = {int(v): int(rng.integers(1, 5)) for v in rng.choice(50, rng.integers(1, 4), False)}
    classes = [3, 8]
    truths = [
        {
            "video": int(rng.choice(list(lengths))),
            "class": int(rng.choice(classes)),
            "crowd": bool(rng.random() < 0.2),
        }
        for _ in range(rng.integers(1, 7))
    ]
    for truth in truths:
        shape = (lengths[truth["video"]], ROWS, COLUMNS)
        truth["grid"] = rng.random(shape) < rng.choice([0.04, 0.1, 0.4, 0.8])
    detections = []
    for _ in range(rng.integers(1, 15)):
        source = truths[rng.integers(len(truths))]
        flips = rng.random(source["grid"].shape) < rng.choice([0.0, 0.05, 0.15, 0.4])
        detections.append(
            {
                "video": source["video"],
                "class": int(rng.choice([source["class"], source["class"], *classes])),
                "grid": source["grid"] ^ flips,
                "score": float(rng.integers(1, 8)) / 8,  # ties are frequent
            }
        )
    for track in [*truths, *detections]:
        track["area"] = mean_area(track)
    for detection in detections:
        detection["ious"] = {
            id(truth): iou(detection, truth)
            for truth in truths
            if truth["video"] == detection["video"]
        }
    return lengths, classes, truths, detections


def as_files(lengths, classes, truths, detections):
    def masks(grid):
        cell = np.ones((CELL, CELL), dtype=bool)
        return [encode_rle(np.kron(frame, cell)) if frame.any() else None for frame in grid]

    def entry(track):
        return {
            "video_id": track["video"],
            "category_id": track["class"],
            "segmentations": masks(track["grid"]),
        }

    gt = {
        "videos": [
            {"id": v, "height": CELL * ROWS, "width": CELL * COLUMNS, "length": length}
            for v, length in lengths.items()
        ],
        "categories": [{"id": c, "name": f"class {c}"} for c in classes],
        "annotations": [
            {"id": k, "iscrowd": int(truth["crowd"]), **entry(truth)}
            for k, truth in enumerate(truths)
        ],
    }
    return gt, [{"score": detection["score"], **entry(detection)} for detection in detections]


def mean_area(track):
    sizes = [int(frame.sum()) * CELL**2 for frame in track["grid"] if frame.any()]
    return sum(sizes) / len(sizes) if sizes else 0


def iou(a, b):
    union = (a["grid"] | b["grid"]).sum()
    return (a["grid"] & b["grid"]).sum() / union if union else 0.0


def label_detections(detections, truths, threshold, low, high):
    """``[(score, "hit" | "miss" | "ignored")]`` of one video and class, and its truth count."""

    def counts(truth):
        return not truth["crowd"] and low <= truth["area"] <= high

    candidates = sorted(truths, key=lambda truth: not counts(truth))
    taken, labels = set(), []
    for detection in detections:
        best, best_iou = None, threshold
        for k, truth in enumerate(candidates):
            if k in taken and not truth["crowd"]:
                continue
            if best is not None and counts(candidates[best]) and not counts(truth):
                break
            if detection["ious"][id(truth)] >= best_iou:
                best, best_iou = k, detection["ious"][id(truth)]
        if best is not None:
            taken.add(best)
            label = "hit" if counts(candidates[best]) else "ignored"
        else:
            label = "miss" if low <= detection["area"] <= high else "ignored"
        labels.append((detection["score"], label))
    return labels, sum(map(counts, truths))


def average_precision(labels, num_truths):
    """``(AP over 101 points, recall)`` of detections pooled over the videos."""
    hits = misses = 0
    curve = []
    for _, label in sorted(labels, key=lambda item: -item[0]):
        hits += label == "hit"
        misses += label == "miss"
        curve.append((hits / num_truths, hits / (hits + misses) if hits else 0.0))
    points = [
        max((precision for recall, precision in curve if recall >= point), default=0.0)
        for point in np.linspace(0, 1, 101)
    ]
    return sum(points) / 101, hits / num_truths


def plain_metrics(lengths, classes, truths, detections):
    values = {}
    for suffix, (low, high) in RANGES.items():
        for limit in (1, 10, 100):
            for threshold in THRESHOLDS:
                for c in classes:
                    labels, num_truths = [], 0
                    for v in sorted(lengths):
                        mine = [d for d in detections if (d["video"], d["class"]) == (v, c)]
                        mine = sorted(mine, key=lambda d: -d["score"])[:limit]
                        theirs = [t for t in truths if (t["video"], t["class"]) == (v, c)]
                        found, count = label_detections(mine, theirs, threshold, low, high)
                        labels += found
                        num_truths += count
                    if num_truths:
                        key = (suffix, limit, round(threshold, 2), c)
                        values[key] = average_precision(labels, num_truths)

    def mean(which, suffix="", limit=100, threshold=None, c=None):
        chosen = [
            value[which]
            for key, value in values.items()
            if key[:2] == (suffix, limit) and threshold in (None, key[2]) and c in (None, key[3])
        ]
        return sum(chosen) / len(chosen) if chosen else -1.0

    return {
        "AP": mean(0),
        "AP50": mean(0, threshold=0.5),
        "AP75": mean(0, threshold=0.75),
        **{f"AP{suffix}": mean(0, suffix) for suffix in "sml"},
        **{f"AR{limit}": mean(1, limit=limit) for limit in (1, 10, 100)},
        **{f"AR{suffix}": mean(1, suffix) for suffix in "sml"},
        "per_class_AP": {f"class {c}": mean(0, c=c) for c in classes},
    }


@pytest.mark.parametrize("part", range(4))
def test_equals_a_plain_implementation(part):
    seen = []
    for seed in range(60 * part, 60 * (part + 1)):
        data_set = random_data_set(np.random.default_rng(seed))
        found = evaluate_youtube_vis(*as_files(*data_set))
        expected = plain_metrics(*data_set)
        by_class = {
            name: -1.0 if value is None else value
            for name, value in found.pop("per_class_AP").items()
        }
        assert by_class == pytest.approx(expected.pop("per_class_AP"), abs=1e-9), f"seed {seed}"
        assert found == pytest.approx(expected, abs=1e-9), f"seed {seed}"
        seen.append(found)
    for name in ("AP", "APs", "APm", "APl"):  # the cases reach all ranges, and are no walk-overs
        assert len({case[name] for case in seen}) > 5, name
