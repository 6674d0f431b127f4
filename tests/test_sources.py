"""Frame sources: videos, images and arrays behind one interface, and which frames are read."""

import os

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from queryinst_vis import cli
from queryinst_vis.cli.source_arguments import split_words
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.inference import track
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.video.frames import Selection, parse_time
from queryinst_vis.video.http import origin_of
from queryinst_vis.video.source import known_length, open_source
from queryinst_vis.video.sources import distinct_names, open_sources
from tests.clips import HEIGHT, WIDTH, frame_of, index_of, indices, write_video
from tests.tiny import draw_frame
from tests.tracking_support import KnowingTracker

# Frame ranges


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1:30", 90),
        ("0:01:30.5", 90.5),
        ("2:00:00", 7200),
        (".25", 0.25),
        ("75.5", 75.5),
        ("90s", 90),
        ("1.5min", 90),
        ("2 m", 120),
        ("1H", 3600),
    ],
)
def test_times_are_seconds_h_m_s_or_have_a_unit(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1:60", "1:75:00", "-3", "abc", "1:2:3:4", "1e3", "nan", "5d", "1:30s"]
)
def test_malformed_times_are_refused(text):
    with pytest.raises(ValueError, match="expected a time such as"):
        parse_time(text)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"start": 0.5}, range(5, 20)),
        ({"start": 0.51}, range(6, 20)),
        ({"end": 0.5}, range(5)),
        ({"start_frame": 3, "end_frame": 9, "stride": 2}, range(3, 9, 2)),
        ({"start_frame": 3, "end": 0.6}, range(3, 6)),
        ({"start": 0.2, "stride": 4, "max_frames": 3}, range(2, 14, 4)),
        ({"end_frame": 100}, range(20)),
    ],
    ids=str,
)
def test_a_range_of_a_video(tmp_path, selection, expected):
    source = open_source(write_video(tmp_path / "clip.mp4"), Selection(**selection))
    assert indices(source) == list(expected)
    assert len(source) == len(expected)
    assert [frame.seconds for frame in source.frames()] == [n / 10 for n in expected]


@pytest.mark.parametrize(
    "bad", [{"start": -1}, {"start": 3, "end": 3}, {"start_frame": 4, "end_frame": 2}, {"end": 0}]
)
def test_empty_ranges_are_refused(bad):
    with pytest.raises(InputError, match="must be"):
        Selection(**bad)


def test_a_range_beyond_the_end_is_refused_with_the_video_length(tmp_path, capsys):
    path = write_video(tmp_path / "clip.mp4")
    complaint = r"the range contains no frame \(start 7.0\); it has 20 frames, .* 1.900 s"
    with pytest.raises(InputError, match=complaint):
        open_source(path, Selection(start=7.0))
    assert cli.main(["track", str(path), "--start", "0:07"]) == 2
    assert "it has 20 frames" in capsys.readouterr().err


def test_a_selection_is_the_same_with_and_without_an_index_of_times():
    random = np.random.default_rng(0)

    class Shown:
        def __init__(self, number, seconds):
            self.number, self.seconds = number, seconds

    for _ in range(200):
        seconds = np.cumsum(random.uniform(0.01, 1, random.integers(1, 20))) + 3
        bounds = {
            "start": random.uniform(0, 5),
            "end": random.uniform(5, 10),
            "start_frame": int(random.integers(0, 5)),
            "end_frame": int(random.integers(5, 20)),
            "stride": int(random.integers(1, 4)),
            "max_frames": int(random.integers(1, 9)),
        }
        asked = {name: value for name, value in bounds.items() if random.random() < 0.5}
        selection = Selection(**asked)
        frames = selection.select(Shown(*pair) for pair in enumerate(seconds))
        assert [frame.number for frame in frames] == list(selection.numbers(seconds))


# Images


def write_frames(folder, count=12, suffix=".png", size=(HEIGHT, WIDTH)):
    """``frame0.png`` to ``frame11.png``: in the order of their names, 10 comes before 2."""
    folder.mkdir(exist_ok=True)
    for index in range(count):
        image = cv2.cvtColor(frame_of(index, *size), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"frame{index}{suffix}"), image)
    return folder


def test_a_folder_of_frames_is_a_video_in_natural_order(tmp_path):
    source = open_source(write_frames(tmp_path / "walk"), fps=10)
    assert indices(source) == list(range(12)) == indices(source)
    assert (source.name, source.fps, len(source), source.path) == ("walk", 10, 12, None)
    assert [frame.seconds for frame in source.frames()] == [n / 10 for n in range(12)]
    assert open_source(tmp_path / "walk").fps == 25


def test_a_frame_range_selects_images_of_a_folder(tmp_path):
    folder = write_frames(tmp_path / "walk")
    source = open_source(folder, Selection(start=0.3, stride=4, max_frames=2), fps=10)
    assert indices(source) == [3, 7] and source.fps == 2.5
    with pytest.raises(InputError, match="12 frames"):
        open_source(folder, Selection(start_frame=12))


def test_a_glob_a_list_of_paths_and_a_single_image_are_sources(tmp_path):
    folder = write_frames(tmp_path / "walk")
    write_frames(folder, suffix=".jpg")
    assert indices(open_source(str(folder / "*.png"))) == list(range(12))
    files = [folder / f"frame{index}.png" for index in (0, 1)]
    assert indices(open_source(files)) == indices(open_source([*map(str, files)])) == [0, 1]
    one = open_source(files[1])
    [frame] = one.frames()
    assert (one.name, index_of(frame.image), len(one)) == ("frame1", 1, 1)


def test_natural_order_covers_numbers_in_folder_names(tmp_path):
    write_frames(tmp_path / "part10", 3)
    write_frames(tmp_path / "part2", 2)
    source = open_source(str(tmp_path / "**" / "*.png"))
    assert [index_of(frame.image) for frame in source.frames()] == [0, 1, 0, 1, 2]


def test_skipped_files_are_counted_in_a_note(tmp_path):
    folder = write_frames(tmp_path / "walk", 2)
    (folder / "notes.txt").touch()
    (folder / ".DS_Store").touch()
    with pytest.warns(InputWarning, match=r"1 files .*\(1 \.txt\)"):
        assert indices(open_source(folder)) == [0, 1]
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", str(tmp_path / "*.png")):
        with pytest.raises(InputError, match="no images"):
            open_source(nothing)


def test_images_of_different_sizes_are_refused_before_tracking(tmp_path, capsys):
    folder = write_frames(tmp_path / "walk", 3)
    cv2.imwrite(str(folder / "frame3.png"), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(InputError, match=r"frame0\.png .*64x48 .*frame3\.png .*30x20"):
        open_source(folder)
    assert indices(open_source(folder, Selection(end_frame=3))) == [0, 1, 2]
    assert cli.main(["track", str(folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unreadable_image_keeps_its_frame_number(tmp_path):
    folder = write_frames(tmp_path / "walk", 4)
    (folder / "frame2.png").write_bytes((folder / "frame2.png").read_bytes()[:60])
    source = open_source(folder)
    with pytest.warns(InputWarning, match=r"frame 2 \(1 of 4\) .*frame2\.png"):
        frames = list(source.frames())
    assert [(index_of(frame.image), frame.is_damaged) for frame in frames] == [
        *[(0, False), (1, False), (1, True), (3, False)]
    ]
    with pytest.raises(InputError, match=r"frame2\.png"):
        list(open_source(folder, strict=True).frames())


def test_fps_and_bgr_are_refused_for_video_files(tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    with pytest.raises(InputError, match="fps is for images"):
        open_source(path, fps=10)
    with pytest.raises(InputError, match="bgr is for arrays"):
        open_source(path, bgr=True)


# Arrays


def test_arrays_pil_images_and_video_arrays_are_sources():
    arrays = [frame_of(index) for index in range(6)]
    for images in (arrays, tuple(arrays), [*map(Image.fromarray, arrays)], np.stack(arrays)):
        source = open_source(images, Selection(start_frame=1, stride=2), fps=10)
        assert indices(source) == [1, 3, 5] == indices(source)
        assert (len(source), source.fps) == (3, 5)
    for image in (arrays[0], Image.fromarray(arrays[0])):
        assert indices(open_source(image)) == [0]


def test_an_iterator_is_consumed_lazily():
    read = []

    def camera():
        for index in range(100):
            read.append(index)
            yield frame_of(index)

    source = open_source(camera(), Selection(start_frame=2, stride=3, max_frames=2))
    assert known_length(source) is None
    assert indices(source) == [2, 5]
    assert read == list(range(6))


def test_bgr_reverses_the_channels_of_arrays():
    [frame] = open_source([frame_of(3)[:, :, ::-1]], bgr=True).frames()
    np.testing.assert_array_equal(frame.image, frame_of(3))
    tracker = VideoTracker.from_pretrained("shapes", "cpu", max_size=64)
    rgb, bgr = draw_frame(5), draw_frame(5)[:, :, ::-1]
    expected = tracker.update(rgb).boxes
    assert len(expected)
    tracker.reset()
    assert torch.equal(tracker.update(bgr, bgr=True).boxes, expected)
    [(_, streamed)] = tracker.stream([bgr], bgr=True)
    assert torch.equal(streamed.boxes, expected)
    detector = Detector.from_pretrained("shapes", "cpu", max_size=64)
    found, plain = detector.detect([bgr, Image.fromarray(rgb)], bgr=True)
    assert torch.equal(found.boxes, plain.boxes)
    assert torch.equal(detector.detect(bgr, bgr=True).boxes, detector.detect(rgb).boxes)


@pytest.mark.parametrize(
    ("images", "complaint"),
    [
        ([], "the range contains no frame"),
        ([np.zeros((4, 4), np.uint8)], "must be .height, width, 3. uint8"),
        ([np.zeros((4, 4, 3))], "float64"),
        ([frame_of(0), frame_of(1, 20, 30)], "frame 1 has 30x20 pixels, the first one 64x48"),
        ([frame_of(0), None], "not NoneType"),
        (np.zeros((4, 4), np.uint8), "expected .T, H, W, 3."),
        (3.5, "cannot open a float"),
    ],
)
def test_arrays_that_are_no_video_are_refused(images, complaint):
    with pytest.raises(InputError, match=complaint):
        list(open_source(images).frames())


# Several videos


def test_several_videos_get_distinct_names(tmp_path):
    for place in ("a/clip.mp4", "b/clip.mp4", "b/other.mp4", "b/other.mov"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        write_video(tmp_path / place, frames=2)
    paths = [str(tmp_path / place) for place in ("a/clip.mp4", "b/clip.mp4", "b/other.mp4")]
    assert [s.name for s in open_sources(paths)] == ["a_clip", "b_clip", "other"]
    names = [s.name for s in open_sources([*paths, str(tmp_path / "b/other.mov")])]
    assert names == ["a_clip", "b_clip", "other_mp4", "other_mov"]
    with pytest.raises(InputError, match="3 times"):
        open_sources([paths[0], str(tmp_path / "b" / ".." / "a" / "clip.mp4"), paths[0]])
    assert [s.name for s in open_sources([str(tmp_path / "b")])] == [
        *["clip", "other_mov", "other_mp4"]
    ]
    assert [s.name for s in open_sources([str(tmp_path / "*" / "clip.mp4")])] == names[:2]


def test_names_of_videos_never_contain_the_root_folder():
    names = distinct_names(["clip", "clip"], ["/clip.mp4", "/data/clip.mp4"])
    assert names == ["clip", "data_clip"]


def test_an_open_source_takes_no_further_settings(tmp_path):
    source = open_source(write_video(tmp_path / "clip.mp4", frames=2))
    assert open_source(source) is source
    with pytest.raises(InputError, match="is open already"):
        open_source(source, Selection(stride=2))


def test_images_expanded_by_the_shell_form_one_video(tmp_path):
    folder = write_frames(tmp_path / "walk")
    [source] = open_sources(sorted(map(str, folder.iterdir())))
    assert indices(source) == list(range(12)) and source.name == "walk"


def test_several_videos_get_a_folder_each_and_share_the_weights(tmp_path, monkeypatch, capsys):
    loaded = []
    tracker = KnowingTracker()
    monkeypatch.setattr(track, "load_tracker", lambda *_: loaded.append(1) or tracker)
    walk = tmp_path / "walk"
    walk.mkdir()
    for index in range(3):
        Image.fromarray(draw_frame(index)).save(walk / f"{index}.png")
    copy = tmp_path / "copy"
    copy.mkdir()
    for index in range(3):
        Image.fromarray(draw_frame(index)).save(copy / f"{index}.png")
    out = tmp_path / "out"
    assert cli.main(["track", str(walk), str(copy), "--out", str(out)]) == 0
    assert loaded == [1]
    for name in ("walk", "copy"):
        files = ("results.json", "run.json", "timeline.png", "tracks.jsonl")
        names = {f"{name}.mp4", *files}
        assert set(os.listdir(out / name)) == names
    assert capsys.readouterr().out.count("1 track in 3 frames") == 2


# Names


def test_the_origin_of_a_url_is_unique_and_holds_no_secret():
    first, second = (origin_of(f"http://me:pw@host/clip?token={word}") for word in ("ab", "cd"))
    assert first.startswith("http://host/clip?") and first != second
    assert "pw" not in first and "token" not in first and "ab" not in first.partition("?")[0]


def test_command_line_words_are_split_into_sources_and_overrides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.mp4").touch()
    words = ["x.mp4", "a=b.mp4", "http://host/?q=1", "seed=3", "tracking.rule=query", "./k=v.mp4"]
    assert split_words(words) == (
        ["x.mp4", "a=b.mp4", "http://host/?q=1", "./k=v.mp4"],
        ["seed=3", "tracking.rule=query"],
    )
