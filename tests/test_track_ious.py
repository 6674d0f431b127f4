"""Track IoUs: skipping irrelevant pairs leaves the metrics unchanged."""

import gc

import numpy as np
import pytest
from eval_cases import HEIGHT, WIDTH, detection, ground_truth, rle

from queryinst_vis.evaluation.overlaps import track_ious
from queryinst_vis.formats.video_set import VideoSet
from queryinst_vis.masks import decode_rle
from queryinst_vis.utils.allocator import steady_memory

LENGTH = 3


def random_track(rng):
    """A box near the upper left corner in each frame, of sizes from tiny to half the frame."""
    sides = rng.integers(1, (WIDTH // 2, HEIGHT // 2), size=(LENGTH, 2))
    boxes = [rle(0, 0, *side) for side in sides.tolist()]
    return [box if rng.random() < 0.7 else None for box in boxes]


@pytest.fixture(scope="module")
def tracks():
    rng = np.random.default_rng(0)
    gt = ground_truth([{"segmentations": random_track(rng)} for _ in range(6)], length=LENGTH)
    [tracks] = VideoSet(gt, [detection(random_track(rng)) for _ in range(25)])
    return tracks


def pixels(track):
    empty = np.zeros((HEIGHT, WIDTH), dtype=bool)
    return np.stack([decode_rle(mask) if mask else empty for mask in track.masks])


def test_track_ious_equal_a_pixel_count(tracks):
    ious = track_ious(tracks.detections, tracks.ground_truth)
    gts = [pixels(gt_track) for gt_track in tracks.ground_truth]
    for row, track in zip(ious, tracks.detections, strict=True):
        found = pixels(track)
        for iou, there in zip(row, gts, strict=True):
            union = (found | there).sum()
            assert iou == ((found & there).sum() / union if union else 0.0)


@pytest.mark.parametrize("min_iou", [0.5, 0.75, 0.9])
def test_only_pairs_below_the_minimum_iou_are_skipped(tracks, min_iou):
    exact = track_ious(tracks.detections, tracks.ground_truth)
    limited = track_ious(tracks.detections, tracks.ground_truth, min_iou)
    assert (limited[exact >= min_iou] == exact[exact >= min_iou]).all()
    assert ((limited == exact) | (limited == 0)).all()
    assert ((limited == 0) & (exact > 0)).any()


def test_an_iou_equal_to_the_minimum_is_kept():
    masks = [rle(0, 0, 100, 100), None], [rle(0, 0, 100, 50), None]
    [tracks] = VideoSet(ground_truth([{"segmentations": masks[0]}]), [detection(masks[1])])
    assert track_ious(tracks.detections, tracks.ground_truth, min_iou=0.5).tolist() == [[0.5]]


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_restored_after_an_error(enabled):
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(KeyError), steady_memory():
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
