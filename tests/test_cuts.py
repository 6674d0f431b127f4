"""Hard cuts, and the new identities that start with them."""

import numpy as np
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.inference import detector
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.models.build import build_model
from queryinst_vis.video.cuts import CutDetector
from tests.tiny import draw_frame, oracle_detect, tiny_config


def cuts_of(frames, threshold=4.0):
    finder = CutDetector(threshold)
    return [index for index, frame in enumerate(frames) if finder.is_cut(frame)]


def shot(seed, frames, speed):
    """A camera that pans over random blocks of four colours by ``speed`` pixels per frame."""
    rng = np.random.default_rng(seed)
    palette = rng.integers(0, 256, (4, 3))
    blocks = palette[rng.integers(0, 4, (9, 64))].astype(np.uint8)
    landscape = np.kron(blocks, np.ones((16, 16, 1), dtype=np.uint8))
    noise = rng.integers(0, 12, (frames, 144, 256, 3))
    views = [np.roll(landscape, -speed * index, axis=1)[:, :256] for index in range(frames)]
    return list(np.clip(np.stack(views) + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("speed", [0, 2, 8])
def test_cuts_are_detected_exactly_at_the_first_frame_of_each_shot(speed):
    lengths = [12, 9, 30, 5, 14]
    video = [f for seed, length in enumerate(lengths) for f in shot(seed, length, speed)]
    assert cuts_of(video) == list(np.cumsum(lengths[:-1]))


def with_share(changed):
    """A grey frame with a share of red pixels, 0..1."""
    frame = np.full((36, 64, 3), 100, dtype=np.uint8)
    frame.reshape(-1, 3)[: round(changed * 36 * 64)] = (250, 0, 0)
    return frame


@pytest.mark.parametrize(("threshold", "expected"), [(3.4, [4]), (3.6, [])])
def test_a_cut_exceeds_a_multiple_of_the_mean_recent_change(threshold, expected):
    """Changes by 5, 10 and 15 % of the pixels, and then by 35 %."""
    frames = [with_share(share) for share in (0.0, 0.05, 0.15, 0.3, 0.65)]
    assert cuts_of(frames, threshold) == expected


@pytest.mark.parametrize(("share", "expected"), [(0.19, []), (0.21, [3])])
def test_a_small_change_in_a_static_shot_is_no_cut(share, expected):
    frames = [with_share(0.0)] * 3 + [with_share(share)] * 3
    assert cuts_of(frames) == expected


def test_cut_detection_does_not_depend_on_frame_size():
    frames = [np.kron(f, np.ones((9, 9, 1), np.uint8)) for f in shot(0, 5, 1) + shot(1, 5, 1)]
    assert cuts_of(frames) == [5]


def test_the_first_frame_after_a_reset_is_no_cut():
    finder = CutDetector(4.0)
    assert [finder.is_cut(frame) for frame in (shot(0, 1, 0) + shot(1, 1, 0))] == [False] * 2
    for frame in shot(1, 4, 0):
        finder.is_cut(frame)
    finder.reset()
    assert not finder.is_cut(shot(2, 1, 0)[0])


@pytest.mark.parametrize("threshold", [1.0, 0.0, float("nan")])
def test_bad_cut_thresholds_are_refused(threshold):
    with pytest.raises(InputError, match=r"tracking\.cut_threshold: .*above 1"):
        CutDetector(threshold)


# --- tracking -------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["masktrack", "bytetrack"])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(("threshold", "after"), [(None, [0, 1]), (4.0, [2, 3])])
def test_tracks_get_new_identities_after_a_cut(monkeypatch, rule, batch, threshold, after):
    """The same two rectangles in the same places, on another background."""
    monkeypatch.setattr(detector, "detect", oracle_detect)
    config = tiny_config()
    config.tracking.rule, config.tracking.cut_threshold = rule, threshold
    tracker = VideoTracker(Detector(build_model(config), config))
    before = [draw_frame(index) for index in range(4)]
    other = [np.where(frame == 110, 40, frame).astype(np.uint8) for frame in before]
    for _ in range(2):
        tracked = tracker.follow(before + other, batch)
        ids = [detections.track_ids.tolist() for _, detections in tracked]
        assert ids == [[0, 1]] * 4 + [after] * 4
        tracker.reset()
