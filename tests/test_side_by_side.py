"""Several videos in parallel: shared batches, and the results of single runs."""

import threading

import numpy as np
import pytest
import torch

from queryinst_vis.errors import InputError
from queryinst_vis.inference import track
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.outputs import writing
from queryinst_vis.inference.side_by_side import Lane, SideBySide
from queryinst_vis.inference.track import track_videos
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.utils.prefetch import Polled
from queryinst_vis.video import VideoWriter
from queryinst_vis.video.frames import Frame
from queryinst_vis.video.source import open_source
from tests.closeness import assert_equal_detections
from tests.tiny import HEIGHT, WIDTH, distinct_model, draw_frame, tiny_config

BATCH = 4


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    config = tiny_config()
    return Detector(distinct_model(config), config)


class CountingDetector:
    """A detector that records its batches."""

    def __init__(self, detector):
        self.config, self.has_track_head = detector.config, True
        self.batches = []
        self._detector = detector

    def detect_frames(self, frames, embedding="track_head"):
        self.batches.append([frame.shape for frame in frames])
        return self._detector.detect_frames(frames, embedding)


def frames_of(video, count, size=(HEIGHT, WIDTH)):
    """Frames of one of several distinct videos; the third is damaged."""
    random = np.random.default_rng(video)
    for number in range(count):
        image = draw_frame(number % 8)[: size[0], : size[1]].copy()
        image[:6] = random.integers(0, 255, image[:6].shape, dtype=np.uint8)
        yield Frame(number, number / 10, image, is_damaged=number == 2)


def follow(detector, lengths, streams, batch=BATCH, order=None):
    """The results of every video, by its number."""
    lanes, found = {}, {}
    numbers = iter(order or range(len(lengths)))

    def next_lane():
        number = next(numbers, None)
        if number is None:
            return None
        lane = Lane(VideoTracker(detector), Polled(frames_of(number, lengths[number])))
        lanes[lane], found[number] = number, []
        return lane

    for lane, result in SideBySide(next_lane, streams, batch):
        if result is not None:
            found[lanes[lane]].append(result)
    return found


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_detections_do_not_depend_on_the_rest_of_the_batch(detector, batch):
    frames = [frame.image for frame in frames_of(0, 9)]
    found = [
        detector.detect_frames([*others[:place], frames[0], *others[place:]], "track_head")[place]
        for others in ([frames[0]] * (batch - 1), frames[1:batch])
        for place in range(batch)
    ]
    assert len(found[0]) == 5
    for other in found[1:]:
        assert_equal_detections(other, found[0])


def assert_same_results(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.index == theirs.index
        assert_equal_detections(ours.detections, theirs.detections)


def test_results_are_the_same_for_any_number_of_streams_and_any_order(detector):
    lengths, order = [7, 3, 10, 1, 5], [4, 2, 0, 3, 1]
    alone = follow(detector, lengths, 1, batch=1)
    assert [len(results) for results in alone.values()] == lengths
    for others in (
        follow(detector, lengths, 2, batch=1),
        follow(detector, lengths, 3, batch=1, order=order),
        follow(detector, lengths, 4, batch=4, order=order),
    ):
        for video, results in alone.items():
            assert_same_results(others[video], results)


def test_results_equal_those_of_a_video_on_its_own(detector):
    expected = VideoTracker(detector).follow_video(frames_of(1, 8), 1)
    assert_same_results(follow(detector, [8, 8, 8], 3)[1], expected)


def test_only_frames_of_one_size_share_a_batch(detector):
    counting = CountingDetector(detector)
    sizes = iter([(HEIGHT, WIDTH), (HEIGHT, WIDTH), (32, 64)])

    def next_lane():
        size = next(sizes, None)
        if size is None:
            return None
        return Lane(VideoTracker(counting), Polled(frames_of(0, 8, size)))

    assert sum(result is not None for _, result in SideBySide(next_lane, 3, 2)) == 24
    assert all(len(set(batch)) == 1 for batch in counting.batches)
    assert max(map(len, counting.batches)) == 2


def test_videos_with_different_settings_do_not_share_a_batch(detector):
    one, other, third = (
        Lane(VideoTracker(detector), Polled([]), conf=conf) for conf in (0.1, 0.2, 0.1)
    )
    assert not other.share_detector(one)
    assert third.share_detector(one) and third.detector is one.detector


def test_a_video_that_fails_ends_without_affecting_the_others(detector):
    def broken():
        yield from frames_of(0, 5)
        raise InputError("video: no more")

    feeds = iter([Polled(broken()), Polled(frames_of(1, 9))])

    def next_lane():
        feed = next(feeds, None)
        return feed and Lane(VideoTracker(detector), feed)

    ended, count = [], 0
    for lane, result in SideBySide(next_lane, 2, BATCH):
        count += result is not None
        if result is None:
            ended.append(str(lane.error))
    assert ended == ["video: no more", "None"]
    assert count == 14  # also those before the error


def test_a_stalled_source_does_not_delay_the_others(detector):
    release = threading.Event()

    def silent():
        release.wait(60)
        yield from frames_of(0, 1)

    feeds = iter([Polled(silent()), Polled(frames_of(1, 3))])

    def next_lane():
        feed = next(feeds, None)
        return feed and Lane(VideoTracker(detector), feed)

    lanes = []
    for lane, result in SideBySide(next_lane, 2, BATCH, patience=0.01):
        if result is None:
            lanes.append(lane)
            release.set()  # only after the other one has ended
    assert len(lanes) == 2


def test_a_polled_reader_never_blocks_and_reads_only_up_to_its_limit():
    ahead, asked = [], threading.Semaphore(0)

    def items():
        for number in range(5):
            ahead.append(number - len(found))
            asked.release()
            yield number
        raise InputError("broken")

    found = []
    polled = Polled(items(), 2)
    assert asked.acquire(timeout=60) and asked.acquire(timeout=60)
    with pytest.raises(InputError, match="broken"):
        while not polled.ended:
            item = polled.poll()
            found += [] if item is None else [item]
    assert found == [0, 1, 2, 3, 4]
    assert max(ahead) <= 2, "two that wait to be read, and one that is being taken"
    assert polled.ended and polled.poll() is None
    with pytest.raises(ValueError, match="1 or more"):
        Polled([], 0)


@pytest.mark.parametrize("setting", [{"streams": 0}, {"streams": 1, "batch": 0}])
def test_stream_and_batch_counts_below_1_are_refused(setting):
    with pytest.raises(InputError, match="1 or more"):
        SideBySide(lambda: None, **setting)


def write_clip(path, frames):
    with VideoWriter(path, 10) as writer:
        for index in range(frames):
            writer.write(draw_frame(index))
    return path


def test_track_writes_the_same_files_for_videos_side_by_side(tmp_path, detector, monkeypatch):
    monkeypatch.setattr(track, "load_tracker", lambda *_: VideoTracker(detector))
    paths = [write_clip(tmp_path / f"{frames}.mp4", frames) for frames in (4, 7, 5)]

    def run(out, streams):
        sources = [open_source(path) for path in paths]
        folders = [tmp_path / out / path.stem for path in paths]
        done = track_videos(
            sources, folders, TrackOptions(save=["jsonl"]), batch=2, streams=streams
        )
        assert sorted(summary.frames for summary in done) == [4, 5, 7]
        return [
            [line.split(b'"score"')[0] for line in (folder / "tracks.jsonl").open("rb")]
            for folder in folders
        ]

    assert run("one", 1) == run("three", 3)


def test_a_failed_output_stops_all_videos_and_leaves_no_files(tmp_path, detector, monkeypatch):
    monkeypatch.setattr(track, "load_tracker", lambda *_: VideoTracker(detector))
    paths = [write_clip(tmp_path / f"{frames}.mp4", frames) for frames in (4, 6)]
    folders = [tmp_path / "out" / path.stem for path in paths]

    def fail(path, record):
        raise InputError(f"cannot write {path}: disk full")

    monkeypatch.setattr(writing, "write_json_atomically", fail)
    sources = [open_source(path) for path in paths]
    with pytest.raises(InputError, match="disk full"):
        list(track_videos(sources, folders, TrackOptions(save=["jsonl"]), batch=2, streams=2))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
