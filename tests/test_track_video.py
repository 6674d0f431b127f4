"""``track``: annotated video, results and timeline, all or none."""

import json
import os
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from queryinst_vis.checkpoints.catalogue import find_weights
from queryinst_vis.checkpoints.weights import load_weights
from queryinst_vis.config import Config
from queryinst_vis.drawing import DrawingStyle
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.inference import track
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.outputs import OutputPlan, from_tracks
from queryinst_vis.inference.track import run_tracker, track_video
from queryinst_vis.masks import decode_rle
from queryinst_vis.structures import Detections
from queryinst_vis.video import VideoReader, VideoWriter
from queryinst_vis.video.source import open_source
from queryinst_vis.visualization import track_colour
from tests.tiny import HEIGHT, WIDTH, rectangles
from tests.tracking_support import FRAMES, KnowingTracker


class StumblingTracker(KnowingTracker):
    def update(self, frame, time=None):
        if len(self.frames) == 5:
            raise RuntimeError("out of memory")
        return super().update(frame, time)


def test_only_the_documented_files_are_written(video, out, loaded):
    summary = track_video(video, out)
    names = ["clip.mp4", "results.json", "run.json", "timeline.png", "tracks.jsonl"]
    assert sorted(os.listdir(out)) == names
    assert sorted(summary.files) == sorted(out.iterdir())


def test_the_summary_counts_frames_and_tracks(video, out, loaded):
    summary = track_video(video, out)
    assert (summary.frames, summary.tracks) == (FRAMES, 2)
    assert summary.fps == pytest.approx(FRAMES / summary.seconds)
    lines = str(summary).splitlines()
    assert lines[0].startswith("2 tracks in 12 frames")
    assert lines[1] == "box: 1, crate: 1"
    assert lines[2:] == [f"wrote {path} ({summary.about[path]})" for path in summary.files]


def test_user_overrides_take_precedence_over_defaults(video, out, loaded):
    overrides = ["tracking.rule=query", "tracking.max_tracks=7"]
    track_video(
        video,
        out,
        "some_weights",
        score_threshold=0.45,
        max_size=320,
        device="cpu",
        overrides=overrides,
    )
    [(weights, device, given, max_size)] = loaded
    assert (weights, device, max_size) == ("some_weights", "cpu", 320)
    assert given == [*overrides, "inference.score_threshold=0.45"]
    tracking = track.load_tracker(
        TrackOptions("people", overrides=overrides)
    ).detector.config.tracking
    assert (tracking.rule, tracking.max_tracks, tracking.cut_threshold) == ("query", 7, 4)


@pytest.mark.parametrize(
    ("asked", "overrides", "expected"),
    [
        (None, [], 0.3),  # instead of the 0.05 of the benchmarks
        (0.05, [], 0.05),
        (None, ["inference.score_threshold=0.05"], 0.05),
        (None, ["inference.score_threshold=0.2"], 0.2),
        (0.4, ["inference.score_threshold=0.2"], 0.4),  # as in `detect`
    ],
)
def test_the_score_threshold_of_benchmarks_is_raised_unless_given(
    loaded, asked, overrides, expected
):
    tracker = track.load_tracker(TrackOptions("some_weights", asked, overrides=overrides), "cpu")
    assert tracker.detector.config.inference.score_threshold == expected


def test_options_from_lists_and_tuples_are_equal_and_hashable():
    lists = TrackOptions(classes=["box", 1], overrides=["tracking.rule=query"], save=["json"])
    tuples = TrackOptions(classes=("box", 1), overrides=("tracking.rule=query",), save=("json",))
    assert lists == tuples and len({lists, tuples}) == 1


def test_videos_share_a_detector_unless_detector_options_differ():
    asked = TrackOptions("people", conf=0.5, max_size=320, overrides=("tracking.rule=query",))
    same = replace(asked, iou=0.6, classes=("person",), save=("csv",))
    assert same.detector_key == asked.detector_key
    for change in ({"weights": "shapes"}, {"conf": 0.4}, {"max_size": None}, {"overrides": ()}):
        assert replace(asked, **change).detector_key != asked.detector_key


def test_people_are_tracked_with_the_settings_of_their_weights():
    tracker = track.load_tracker(TrackOptions("people"), "cpu")
    config, _ = load_weights(find_weights("people"))
    assert config.inference.score_threshold != Config().inference.score_threshold
    assert tracker.detector.config.inference == config.inference
    assert tracker.detector.config.tracking == replace(config.tracking, max_tracks=1000)


def test_results_are_youtube_vis_tracks_of_video_1(video, out, loaded):
    track_video(video, out)
    box, crate = json.loads((out / "results.json").read_text())
    assert (box["video_id"], box["category_id"], box["score"]) == (1, 1, pytest.approx(0.9))
    assert (crate["video_id"], crate["category_id"], crate["score"]) == (1, 2, pytest.approx(0.6))
    assert [mask is None for mask in crate["segmentations"]] == [True] * 4 + [False] * 8
    for index, mask in enumerate(box["segmentations"]):
        x0, y0, x1, y1 = rectangles(index)[0]
        expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
        expected[y0:y1, x0:x1] = True
        np.testing.assert_array_equal(decode_rle(mask), expected)


def test_the_annotated_video_shows_the_instances(video, out, loaded):
    # no label: in so small a frame it would cover the other instance
    track_video(video, out, style=DrawingStyle.of(["mask", "outline", "trace"]))
    before, after = VideoReader(video), VideoReader(out / "clip.mp4")
    assert (len(after), after.fps) == (len(before), before.fps)
    assert (after.height, after.width) == (HEIGHT, WIDTH)
    for index, (plain, drawn) in enumerate(zip(before, after, strict=True)):
        if index < 4:
            continue
        x0, y0, x1, y1 = rectangles(index)[1]  # no trace covers the crate
        inside = (slice(y0 + 4, y1 - 4), slice(x0 + 4, x1 - 4))
        blend = 0.45 * np.array(track_colour(1)) + 0.55 * plain[inside].mean(axis=(0, 1))
        np.testing.assert_allclose(drawn[inside].mean(axis=(0, 1)), blend, atol=10)


def test_the_timeline_shows_both_tracks(video, out, loaded):
    track_video(video, out)
    picture = cv2.imread(str(out / "timeline.png"))[:, :, ::-1]
    box, crate = ((picture == track_colour(i)).all(axis=2).any(axis=0).sum() for i in (0, 1))
    assert crate / box == pytest.approx(8 / 12, abs=0.01)


def test_stride_and_max_frames_keep_the_playback_speed(video, out, loaded):
    summary = track_video(video, out, stride=3, max_frames=2)
    reader = VideoReader(out / "clip.mp4")
    assert (summary.frames, len(reader)) == (2, 2)
    assert reader.fps == pytest.approx(10 / 3)
    assert {len(e["segmentations"]) for e in json.loads((out / "results.json").read_text())} == {2}


def test_tracking_is_reset_for_every_video(video, out):
    tracker = KnowingTracker()
    for _ in range(2):
        source = open_source(video)
        summary = run_tracker(tracker, source, OutputPlan(out, source, TrackOptions()))
        assert tracker.frames == list(range(FRAMES))
        assert (summary.frames, summary.tracks) == (FRAMES, 2)


def test_the_progress_bar_goes_to_standard_error(video, out, loaded, capsys):
    track_video(video, out)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "clip.mp4" in printed.err and "12/12" in printed.err and "frames/s" in printed.err


# All or nothing


def _put_yesterdays_results(out):
    out.mkdir()
    for name in ("clip.mp4", "results.json", "timeline.png"):
        (out / name).write_text("yesterday's")


def _assert_nothing_changed(out):
    assert {path.name: path.read_text() for path in out.iterdir()} == {
        "clip.mp4": "yesterday's",
        "results.json": "yesterday's",
        "timeline.png": "yesterday's",
    }


def test_a_tracker_that_fails_leaves_the_folder_unchanged(video, out, monkeypatch):
    _put_yesterdays_results(out)
    monkeypatch.setattr(track, "load_tracker", lambda *_: StumblingTracker())
    with pytest.raises(RuntimeError, match="out of memory"):
        track_video(video, out)
    _assert_nothing_changed(out)


def test_a_timeline_that_fails_leaves_no_other_file(video, out, loaded, monkeypatch):
    def fail(*_):
        raise RuntimeError("no fonts")

    _put_yesterdays_results(out)
    monkeypatch.setattr(from_tracks, "draw_timeline", fail)
    with pytest.raises(RuntimeError, match="no fonts"):
        track_video(video, out)
    _assert_nothing_changed(out)


def test_a_damaged_video_is_tracked_to_its_end(tmp_path, out, monkeypatch):
    class Blind(KnowingTracker):
        def update(self, frame, time=None):
            nothing = torch.zeros(0)
            return Detections(
                torch.zeros(0, 4),
                nothing,
                nothing.long(),
                frame.shape[:2],
                torch.zeros(0, 28, 28),
                track_ids=nothing.long(),
            )

    path = tmp_path / "clip.mp4"
    noise = np.random.default_rng(0)
    with VideoWriter(path, 10) as writer:
        for _ in range(40):
            writer.write(noise.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 8000] = b"\xff" * 8000
    path.write_bytes(data)
    monkeypatch.setattr(track, "load_tracker", lambda *_: Blind())
    with pytest.warns(InputWarning, match=r"damaged: frames 2\d-2\d "):
        summary = track_video(path, out)
    assert summary.frames == len(VideoReader(out / "clip.mp4")) == 40


def test_a_bad_video_is_refused_before_weights_are_loaded(tmp_path, out, loaded):
    with pytest.raises(InputError, match=r"none.mp4: no such file"):
        track_video(tmp_path / "none.mp4", out)
    assert loaded == [] and not out.exists()


@pytest.mark.parametrize("spelling", ["in", "in/../in"])
def test_the_input_is_never_overwritten(video, loaded, spelling):
    before = video.read_bytes()
    with pytest.raises(InputError, match="would replace it"):
        track_video(video, video.parents[1] / spelling)
    assert video.read_bytes() == before
    assert os.listdir(video.parent) == ["clip.mp4"]


def test_results_of_another_video_are_not_overwritten(tmp_path, video, out, loaded):
    track_video(video, out)
    track_video(video, out)  # of the same video they are replaced
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    namesake = tmp_path / "elsewhere" / "clip.mp4"
    namesake.parent.mkdir()
    shutil.copy(video, namesake)
    other = shutil.copy(video, tmp_path / "other.mp4")
    for path in (namesake, other):
        with pytest.raises(InputError, match=r"another video; .*--overwrite"):
            track_video(path, out)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    track_video(namesake, out, overwrite=True)
    with pytest.raises(InputError, match="another video"):
        track_video(video, out)


def test_unrelated_files_in_the_folder_are_kept(video, out, loaded):
    out.mkdir()
    (out / "results.json").write_text("mine")
    with pytest.raises(InputError, match=r"results\.json: .*another video"):
        track_video(video, out)
    assert loaded == [] and (out / "results.json").read_text() == "mine"


def test_a_file_as_output_folder_is_refused(video, out, loaded):
    out.write_text("a file")
    with pytest.raises(InputError, match="cannot write"):
        track_video(video, out)
    assert out.read_text() == "a file"
