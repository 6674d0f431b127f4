"""YouTube-VIS AP against a plain implementation, and its invariances, on random data sets.

Masks are made of 100x100 pixel cells, so that the plain implementation can work on small
boolean grids while areas reach all ranges.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.masks import encode_rle

CELL = 100
ROWS, COLUMNS = 4, 3
CLASSES = (3, 8)
THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
MEASURED = [("", 1), ("", 10), ("", 100), ("s", 100), ("m", 100), ("l", 100)]
RANGES = {"": (0, 1e10), "s": (0, 128**2), "m": (128**2, 256**2), "l": (256**2, 1e10)}


@st.composite
def data_sets(draw):
    """Cell-grid tracks: ``(lengths, gts, detections)`` of up to 3 videos and 4 frames."""
    ids = draw(st.lists(st.integers(0, 50), min_size=1, max_size=3, unique=True))
    lengths = {video: draw(st.integers(1, 4)) for video in ids}
    gts = [
        {
            "video": video,
            "class": draw(st.sampled_from(CLASSES)),
            "crowd": draw(st.sampled_from([False, False, False, True])),
            "grid": draw(grids(lengths[video], sparsity=draw(st.integers(0, 2)))),
            "form": draw(st.sampled_from(list(FORMS))),
        }
        for video in draw(st.lists(st.sampled_from(ids), max_size=6))
    ]
    detections = []
    for _ in range(draw(st.integers(1, 14))):
        source = draw(st.sampled_from(gts)) if gts else {"video": ids[0], "class": 3}
        video = source["video"]
        grid = draw(grids(lengths[video], sparsity=draw(st.integers(1, 4))))
        detections.append(
            {
                "video": video,
                "class": draw(st.sampled_from([source["class"], *CLASSES])),
                "grid": source.get("grid", False) ^ grid,
                "score": draw(st.integers(1, 7)) / 8,  # ties are frequent
                "form": draw(st.sampled_from(list(FORMS))),
            }
        )
    return lengths, gts, detections


def grids(length, sparsity):
    """``(length, ROWS, COLUMNS)`` bool, of whose cells about one in ``2 ** sparsity`` is set."""
    size = length * ROWS * COLUMNS
    bits = st.integers(0, 2**size - 1)

    def to_grid(numbers):
        number = numbers[0]
        for other in numbers[1:]:
            number &= other
        cells = [number >> k & 1 for k in range(size)]
        return np.array(cells, dtype=bool).reshape(length, ROWS, COLUMNS)

    return st.tuples(*[bits] * max(sparsity, 1)).map(to_grid)


def plain_counts(mask):
    """Run lengths as a list, background first."""
    pixels = mask.ravel(order="F")
    ends = np.append(np.flatnonzero(pixels[1:] != pixels[:-1]) + 1, pixels.size)
    runs = np.diff(ends, prepend=0).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if pixels[0] else runs}


def cell_polygons(mask):
    """A square for each cell that is set."""
    corners = ((0, 0), (CELL, 0), (CELL, CELL), (0, CELL))
    cells = np.argwhere(mask[::CELL, ::CELL]) * CELL
    return [[float(v) for dx, dy in corners for v in (x + dx, y + dy)] for y, x in cells]


FORMS = {"compressed": encode_rle, "plain": plain_counts, "polygons": cell_polygons}


def as_files(lengths, gts, detections):
    def entry(track):
        masks = [np.kron(frame, np.ones((CELL, CELL), dtype=bool)) for frame in track["grid"]]
        to_file = FORMS[track["form"]]
        # an absent object is null, or an empty mask
        shown = [m if m.any() or track["form"] == "plain" else None for m in masks]
        return {
            "video_id": track["video"],
            "category_id": track["class"],
            "segmentations": [None if m is None else to_file(m) for m in shown],
        }

    gt = {
        "videos": [
            {"id": v, "height": CELL * ROWS, "width": CELL * COLUMNS, "length": length}
            for v, length in lengths.items()
        ],
        "categories": [{"id": c, "name": f"class {c}"} for c in CLASSES],
        "annotations": [
            {"id": k, "iscrowd": int(gt_track["crowd"]), **entry(gt_track)}
            for k, gt_track in enumerate(gts)
        ],
    }
    return gt, [{"score": detection["score"], **entry(detection)} for detection in detections]


def mean_area(track):
    sizes = [int(frame.sum()) * CELL**2 for frame in track["grid"] if frame.any()]
    return sum(sizes) / len(sizes) if sizes else 0


def iou(a, b):
    union = (a["grid"] | b["grid"]).sum()
    return (a["grid"] & b["grid"]).sum() / union if union else 0.0


def label_detections(detections, gts, threshold, low, high):
    """``[(score, "hit" | "miss" | "ignored")]`` of one video and class, and the object count."""

    def counts(gt_track):
        return not gt_track["crowd"] and low <= gt_track["area"] <= high

    candidates = sorted(gts, key=lambda gt_track: not counts(gt_track))
    taken, labels = set(), []
    for detection in detections:
        best, best_iou = None, threshold
        for k, gt_track in enumerate(candidates):
            if k in taken and not gt_track["crowd"]:
                continue
            if best is not None and counts(candidates[best]) and not counts(gt_track):
                break
            if detection["ious"][id(gt_track)] >= best_iou:
                best, best_iou = k, detection["ious"][id(gt_track)]
        if best is not None:
            taken.add(best)
            label = "hit" if counts(candidates[best]) else "ignored"
        else:
            label = "miss" if low <= detection["area"] <= high else "ignored"
        labels.append((detection["score"], label))
    return labels, sum(map(counts, gts))


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


def plain_metrics(lengths, gts, detections, measured=MEASURED):
    """The metrics that need no other area ranges and limits than those in ``measured``."""
    for track in [*gts, *detections]:
        track["area"] = mean_area(track)
    for d in detections:
        d["ious"] = {id(t): iou(d, t) for t in gts if t["video"] == d["video"]}
    values = {}
    for (suffix, limit), threshold, c in itertools.product(measured, THRESHOLDS, CLASSES):
        labels, num_truths = [], 0
        for v in sorted(lengths):
            mine = [d for d in detections if (d["video"], d["class"]) == (v, c)]
            mine = sorted(mine, key=lambda d: -d["score"])[:limit]
            theirs = [t for t in gts if (t["video"], t["class"]) == (v, c)]
            found, count = label_detections(mine, theirs, threshold, *RANGES[suffix])
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
        "per_class_AP": {f"class {c}": mean(0, c=c) for c in CLASSES},
    }


def one_video(video, lengths, gts, detections):
    mine = [[track for track in tracks if track["video"] == video] for tracks in (gts, detections)]
    return {video: lengths[video]}, *mine


def assert_close(found, expected):
    """Equal within 1e-9; undefined values of classes and videos are None."""
    for name, value in expected.items():
        if isinstance(value, dict):
            numbers = {key: -1.0 if v is None else v for key, v in found[name].items()}
            assert numbers == pytest.approx(value, abs=1e-9), name
        else:
            assert found[name] == pytest.approx(value, abs=1e-9), name


def test_metrics_equal_a_plain_implementation():
    seen = []

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(data_sets())
    def check(data_set):
        found = evaluate_youtube_vis(*as_files(*data_set))
        expected = plain_metrics(*data_set)
        expected["per_video_AP"] = {
            f"video {video}": plain_metrics(*one_video(video, *data_set), MEASURED[2:3])["AP"]
            for video in data_set[0]
        }
        assert_close(found, expected)
        seen.append(found)

    check()
    assert len(seen) >= 200
    for name in ("AP", "APs", "APm", "APl"):  # the cases cover all ranges and a spread of scores
        assert len({case[name] for case in seen}) > 3, name  # other than -1, 0 and 1


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(data_sets(), st.randoms(use_true_random=False))
def test_metrics_do_not_depend_on_order_or_ids(data_set, shuffler):
    gt, results = as_files(*data_set)
    for number, entry in enumerate(results):  # equal scores are decided by order
        entry["score"] += number / 1000
    before = evaluate_youtube_vis(gt, results)
    new_video_id = renumber([video["id"] for video in gt["videos"]], shuffler)
    new_class_id = renumber(CLASSES, shuffler)
    new_id = renumber([entry["id"] for entry in gt["annotations"]], shuffler)
    for video in gt["videos"]:
        video.update(file_names=[f"video {video['id']}/0.jpg"] * video["length"])
        video["id"] = new_video_id[video["id"]]
    for category in gt["categories"]:
        category["id"] = new_class_id[category["id"]]
    for entry in gt["annotations"]:
        entry["id"] = new_id[entry["id"]]
    for entry in [*gt["annotations"], *results]:
        entry["video_id"] = new_video_id[entry["video_id"]]
        entry["category_id"] = new_class_id[entry["category_id"]]
    for part in (gt["videos"], gt["categories"], results):
        shuffler.shuffle(part)
    after = evaluate_youtube_vis(gt, results)
    assert_close(after, {name: before[name] for name in before if name[:2] in ("AP", "AR")})
    for name in ("per_class_AP", "per_video_AP"):
        assert after[name] == before[name]


def renumber(ids, shuffler):
    """Other ids in another order, among them 0."""
    fresh = [0, *shuffler.sample(range(1, 1000), len(ids))][: len(ids)]
    shuffler.shuffle(fresh)
    return dict(zip(ids, fresh, strict=True))
