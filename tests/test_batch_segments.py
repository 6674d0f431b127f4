"""Long videos are tracked in segments by any worker, with the same tables as the uncut video."""

import json
from itertools import pairwise

import numpy as np
import pytest
import supervision as sv
from hypothesis import given
from hypothesis import strategies as st

from queryinst_vis import cli
from queryinst_vis.batch import results as results_module
from queryinst_vis.batch.decoder_process import DamagedFrames
from queryinst_vis.batch.dispatcher import Dispatcher, Outcome
from queryinst_vis.batch.joined_video import merge_warnings
from queryinst_vis.batch.options import RunOptions, Video, VideoOptions
from queryinst_vis.batch.run import execute, plan_run
from queryinst_vis.batch.segments import Cut, Cutting, Segment, cut_video
from queryinst_vis.batch.status import format_status, read_status
from queryinst_vis.batch.tables import key_of
from queryinst_vis.batch.worker import Worker
from queryinst_vis.errors import InputError
from queryinst_vis.video.frames import Selection
from tests.batch_support import (
    Inline,
    find,
    find_rectangles,
    track_all,
    use_rectangle_finder,
    write_clip,
    write_long_clip,
)
from tests.tiny import draw_frame

pyarrow = pytest.importorskip("pyarrow", reason="the tables are Parquet: extra 'batch'")
parquet = pytest.importorskip("pyarrow.parquet")

CUTTING = Cutting(2.0, 0.5)
"""A clip of 6 s in four segments."""


@pytest.fixture
def finder(monkeypatch):
    use_rectangle_finder(monkeypatch)


@pytest.fixture
def clip(tmp_path):
    return write_long_clip(tmp_path / "clips" / "long.mp4")


def rows(out, table):
    """The rows of a table without keys and times."""
    names = ("key", "finished_at", "seconds_")
    return [
        {name: value for name, value in row.items() if not name.startswith(names)}
        for row in parquet.read_table(out / table).to_pylist()
    ]


def assert_same_tables(out, whole):
    for table in ("videos", "tracks", "detections"):
        assert rows(out, table) == rows(whole, table), table


def table_bytes(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for table in ("tracks", "detections")
        for path in (out / table).iterdir()
    }


def segment_files(out):
    return sorted(path.name for path in (out / "segments").rglob("*.*") if path.is_file())


# Where a video is cut


def cut_at(duration, key_every, length=10.0, overlap=2.0, stride=1, fps=10):
    frames = round(duration * fps)
    seconds = np.arange(frames) / fps
    keys = list(range(0, frames, round(key_every * fps)))
    return cut_video(seconds, range(0, frames, stride), keys, Cutting(length, overlap))


def test_a_short_video_is_one_segment():
    [segment] = cut_at(duration=10, key_every=1)
    assert segment == Segment(0, 0, 0, 100, 100, pytest.approx(9.9))


def test_segments_begin_at_the_last_key_frame_within_the_length():
    segments = cut_at(duration=25, key_every=3)
    assert [segment.first for segment in segments] == [0, 60, 120, 180]
    assert [segment.stop for segment in segments] == [80, 140, 200, 250]
    assert [segment.owned for segment in segments] == [0, 80, 140, 200]
    assert [segment.shared for segment in segments] == [60, 120, 180, 250]


def test_a_segment_is_longer_if_it_has_no_key_frame_within_the_length():
    segments = cut_at(duration=60, key_every=25)
    assert [segment.first for segment in segments] == [0, 250, 500]
    assert len(cut_at(duration=60, key_every=60)) == 1


@given(
    frames=st.integers(1, 400),
    keys=st.sets(st.integers(0, 399)),
    stride=st.integers(1, 3),
    length=st.floats(2.1, 15),
    overlap=st.floats(0.05, 1),
)
def test_every_frame_is_owned_by_one_segment_and_tracked_by_at_most_two(
    frames, keys, stride, length, overlap
):
    numbers = range(0, frames, stride)
    seconds = np.arange(frames) / 10
    segments = cut_video(seconds, numbers, sorted(keys), Cutting(length, overlap))
    stops = [*(each.owned for each in segments[1:]), frames]
    owned = [range(each.owned, stop) for each, stop in zip(segments, stops, strict=True)]
    tracked = [range(each.first, each.stop) for each in segments]
    for number in numbers:
        assert sum(number in each for each in owned) == 1
        assert 1 <= sum(number in each for each in tracked) <= 2
    for each in segments:
        assert each.first <= each.owned <= each.shared <= each.stop
        assert each.first in numbers and each.owned in numbers
    for before, after in pairwise(segments):
        assert before.shared == after.first and before.stop > after.first
    assert sum(each.seconds for each in segments) == pytest.approx(seconds[numbers[-1]])


@pytest.mark.parametrize(("length", "overlap"), [(10, 5), (4, 5), (10, 0)])
def test_invalid_lengths_and_overlaps_are_rejected(length, overlap):
    with pytest.raises(InputError, match="--segment"):
        Cutting(length, overlap)


# The data set


@pytest.mark.parametrize("selection", [Selection(), Selection(start=0.7, end=5.2, stride=2)])
def test_tables_equal_those_of_the_uncut_video(tmp_path, clip, finder, selection):
    options = VideoOptions(selection=selection)
    track_all([clip], tmp_path / "whole", options=options)
    _, summary = track_all([clip], tmp_path / "cut", options=options, cutting=CUTTING)
    assert (summary.done, summary.failures) == (1, [])
    assert summary.segments == summary.segments_tracked > 2
    assert_same_tables(tmp_path / "cut", tmp_path / "whole")
    [video] = rows(tmp_path / "cut", "videos")
    assert (summary.frames, summary.seconds) == (video["frames"], pytest.approx(video["duration"]))
    assert segment_files(tmp_path / "cut") == []


def test_tables_are_byte_identical_for_any_order_and_number_of_streams(tmp_path, clip, finder):
    write_long_clip(clip.parent / "other.mp4", 45)
    write_clip(clip.parent / "short.mp4", 4)
    track_all([clip.parent], tmp_path / "one", cutting=CUTTING)
    order = [2, 0, 1]
    track_all([clip.parent], tmp_path / "three", streams=3, order=order, cutting=CUTTING)
    assert len(table_bytes(tmp_path / "one")) == 6
    assert table_bytes(tmp_path / "one") == table_bytes(tmp_path / "three")
    assert_same_tables(tmp_path / "one", tmp_path / "three")


def test_segment_length_and_overlap_change_the_key():
    video = Video("clip", "/a/clip.mp4", "/a/clip.mp4", "1 2 3")
    cuttings = [None, Cutting(10, 1), Cutting(20, 1), Cutting(10, 2)]
    keys = [key_of(video, RunOptions("out", cutting=cutting)) for cutting in cuttings]
    assert len(set(keys)) == 4
    assert "cutting" not in RunOptions("out").key_parts()


def test_saved_files_equal_those_of_the_uncut_video(tmp_path, clip, finder):
    options = VideoOptions(save=("jsonl", "video"))
    for name, cutting in (("whole", None), ("cut", CUTTING)):
        track_all([clip], tmp_path / name, options=options, cutting=cutting)
    whole, cut = (next((tmp_path / name / "files").iterdir()) for name in ("whole", "cut"))
    assert sorted(path.name for path in cut.iterdir()) == ["long.mp4", "run.json", "tracks.jsonl"]
    assert (cut / "tracks.jsonl").read_text() == (whole / "tracks.jsonl").read_text()


def test_a_long_video_without_key_frames_is_tracked_as_a_whole_with_a_warning(tmp_path, finder):
    clip = write_long_clip(tmp_path / "one_key.mp4", 40, key_frame_every=1000)
    _, summary = track_all([clip], tmp_path / "out", cutting=CUTTING)
    assert (summary.done, summary.segments) == (1, 0)
    [video] = rows(tmp_path / "out", "videos")
    assert "no key frame at which it can be cut" in video["warnings"]


def test_damaged_frames_in_an_overlap_are_reported_once(tmp_path, finder):
    from PIL import Image

    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(60):
        Image.fromarray(draw_frame(abs(number % 14 - 7))).save(folder / f"{number:03d}.png")
    for number in (17, 18, 40):  # the overlap of the first two segments is from 15 to 20
        (folder / f"{number:03d}.png").write_bytes(b"no image")
    options = VideoOptions(fps=10)
    track_all([folder], tmp_path / "whole", options=options)
    track_all([folder], tmp_path / "cut", options=options, cutting=CUTTING)
    assert_same_tables(tmp_path / "cut", tmp_path / "whole")
    [video] = rows(tmp_path / "cut", "videos")
    [warning] = json.loads(video["warnings"])
    assert "frames 17-18, 40 (3 of 60)" in warning


def test_segments_that_end_without_instances_keep_their_masks(tmp_path, clip, monkeypatch):
    def find_on_the_right(image):
        found = find_rectangles(image)
        return sv.Detections.empty() if found.xyxy[0, 0] < 20 else found  # without masks

    use_rectangle_finder(monkeypatch, find_on_the_right)
    track_all([clip], tmp_path / "whole")
    track_all([clip], tmp_path / "cut", cutting=CUTTING)
    masks = [
        sorted((row["frame"], row["rle"]) for row in rows(tmp_path / out, "detections"))
        for out in ("whole", "cut")
    ]
    assert masks[0] == masks[1]


def test_warnings_of_segments_are_merged():
    first, second = (DamagedFrames("video v", numbers, 9, "...") for numbers in ([1, 2], [2, 5]))
    merged = merge_warnings([["cut off", first], [second, "cut off"]])
    assert merged == ["cut off", "video v: frames 1-2, 5 (3 of 9) cannot be decoded; ..."]


# Interruptions


class InterruptedRunError(Exception):
    """Simulates a kill."""


def engine_that_stops(run, after):
    """An engine whose only worker is killed after some outcomes."""

    class Stopping(Inline):
        left = after

        def finished(self, outcome):
            super().finished(outcome)
            self.left -= 1
            if self.left == 0:
                raise InterruptedRunError

    def engine(dispatcher):
        Worker(run, Stopping(dispatcher)).work()
        yield from list(dispatcher.final)

    return engine


@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_run_resumes_with_the_missing_segments(tmp_path, clip, finder, after):
    run = RunOptions(str(tmp_path / "out"), device="cpu", cutting=CUTTING)
    with pytest.raises(InterruptedRunError):
        execute(plan_run(find([clip]), run), run, engine_that_stops(run, after))
    assert not (tmp_path / "out" / "videos").exists()
    plan, summary = track_all([clip], tmp_path / "out", cutting=CUTTING)
    assert (len(plan.todo), summary.done) == (1, 1)
    # the first outcome is the cut; segments that were tracked are not tracked again
    assert summary.frames == 60 - (0 if after == 1 else owned_frames(clip, after - 1))
    track_all([clip], tmp_path / "uninterrupted", cutting=CUTTING)
    assert table_bytes(tmp_path / "out") == table_bytes(tmp_path / "uninterrupted")
    assert segment_files(tmp_path / "out") == []


def owned_frames(clip, count):
    segments = cut_video(np.arange(60) / 10, range(60), range(0, 60, 5), CUTTING)
    return segments[count].owned


def test_segments_left_over_after_a_commit_are_deleted(tmp_path, clip, finder, monkeypatch):
    monkeypatch.setattr(results_module, "remove_segments", lambda store, key: None)
    track_all([clip], tmp_path / "out", cutting=CUTTING)
    assert len(segment_files(tmp_path / "out")) == 8
    plan, _ = track_all([clip], tmp_path / "out", cutting=CUTTING)
    assert (len(plan.todo), plan.done) == (0, 1)
    assert segment_files(tmp_path / "out") == []


def test_segments_of_a_changed_video_are_deleted(tmp_path, clip, finder):
    run = RunOptions(str(tmp_path / "out"), device="cpu", cutting=CUTTING)
    with pytest.raises(InterruptedRunError):
        execute(plan_run(find([clip]), run), run, engine_that_stops(run, 2))
    write_long_clip(clip, 50)
    _, summary = track_all([clip], tmp_path / "out", cutting=CUTTING)
    assert (summary.done, summary.frames) == (1, 50)
    assert segment_files(tmp_path / "out") == []


def test_a_failed_segment_fails_its_video_once(tmp_path, clip, finder, monkeypatch):
    put_segment = results_module.put_segment

    def put_unless_second(store, key, segment, *more):
        if segment.index == 1:
            raise InputError("no space left")
        put_segment(store, key, segment, *more)

    monkeypatch.setattr(results_module, "put_segment", put_unless_second)
    write_clip(clip.parent / "short.mp4", 4)
    _, summary = track_all([clip.parent], tmp_path / "out", cutting=CUTTING, attempts=2)
    assert (summary.done, len(summary.failures)) == (1, 1)
    [row] = parquet.read_table(tmp_path / "out" / "failures").to_pylist()
    assert (row["name"], row["kind"], row["attempts"]) == ("long", "output", 2)
    assert row["reason"] == "segment 2 of 4: no space left"


# Dispatching


def cut_of(count):
    segments = tuple(Segment(index, 0, 0, 0, 0, 0.0) for index in range(count))
    return Cut(segments, 1, "")


def hand_out(dispatcher, worker=0):
    video = dispatcher.take(worker)
    return video, "" if video is None or video.part is None else str(video.part)


def test_segments_are_handed_out_next_and_joined_once_all_are_tracked():
    dispatcher = Dispatcher([Video("a", "", "a", ""), Video("b", "", "b", "")], 1)
    video, _ = hand_out(dispatcher)
    dispatcher.finished(0, Outcome(video, cut=cut_of(3), tracked=frozenset([1])))
    parts = [hand_out(dispatcher, worker) for worker in (1, 2)]
    assert [text for _, text in parts] == ["segment 1 of 3", "segment 3 of 3"]
    dispatcher.finished(2, Outcome(parts[1][0]))
    assert hand_out(dispatcher, 2)[0].name == "b"
    dispatcher.finished(1, Outcome(parts[0][0]))
    joining, text = hand_out(dispatcher, 1)
    assert (joining.name, text) == ("a", "joining")


def test_segments_tracked_by_earlier_runs_are_only_joined():
    dispatcher = Dispatcher([Video("a", "", "a", "")], 1)
    video, _ = hand_out(dispatcher)
    dispatcher.finished(0, Outcome(video, cut=cut_of(2), tracked=frozenset([0, 1])))
    joining, text = hand_out(dispatcher)
    assert text == "joining" and not dispatcher.is_over
    dispatcher.finished(0, Outcome(joining))
    assert dispatcher.is_over
    assert [outcome.is_last for outcome, _ in dispatcher.final] == [False, True]


def test_after_a_segment_fails_for_good_the_others_are_skipped():
    dispatcher = Dispatcher([Video("a", "", "a", "")], 1)
    video, _ = hand_out(dispatcher)
    dispatcher.finished(0, Outcome(video, cut=cut_of(4)))
    first, second = hand_out(dispatcher, 1)[0], hand_out(dispatcher, 2)[0]
    assert dispatcher.died(1, "killed") == 1
    assert dispatcher.take(3) is None and not dispatcher.is_over  # the second is in progress
    dispatcher.finished(2, Outcome(second))
    assert dispatcher.is_over
    failed = [outcome for outcome, _ in dispatcher.final if outcome.is_last]
    assert failed == [Outcome(first, "worker", "killed")]


# Command line


def test_invalid_options_are_rejected_in_one_line(tmp_path, clip, capsys):
    words = ["batch", str(clip), "--out", str(tmp_path / "out")]
    for segment, overlap, reason in (
        ("8s", "5s", "more than twice"),
        ("10min", "0s", "must be above 0"),
    ):
        assert cli.main([*words, "--segment", segment, "--segment-overlap", overlap]) == 2
        error = capsys.readouterr().err
        assert reason in error and len(error.splitlines()) == 1
    for option in ("--segment", "--segment-overlap", "--decode-silence", "--decode-time"):
        assert cli.main([*words, option, "soon"]) == 2
        assert "such as 90, 90s, 10min, 1h or 0:01:30.5, got 'soon'" in capsys.readouterr().err
    assert cli.main([*words, "--segment", "10min", "--live"]) == 2
    assert cli.main([*words, "--segment-overlap", "1s"]) == 2
    assert "only used with --segment" in capsys.readouterr().err


def test_the_estimate_and_the_status_count_segments(tmp_path, clip, finder, capsys):
    words = ["batch", str(clip), "--out", str(tmp_path / "out"), "--dry-run", "--device", "cpu"]
    assert cli.main([*words, "--segment", "2s", "--segment-overlap", "0.5s"]) == 0
    assert "in about 4 segments, with 15 frames tracked twice" in capsys.readouterr().out
    _, summary = track_all([clip], tmp_path / "out", cutting=CUTTING)
    assert "4 of 4 segments of long videos" in str(summary)
    status = format_status(read_status(str(tmp_path / "out")), 0)
    assert "4 of 4 segments of long videos tracked" in status
