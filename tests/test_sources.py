"""Whatever frames come from: one interface, and which frames of it are taken."""

import numpy as np
import pytest

from queryinst_vis import cli
from queryinst_vis.cli.source_arguments import split_words
from queryinst_vis.errors import InputError
from queryinst_vis.video.frames import Selection, parse_time
from queryinst_vis.video.source import open_source, origin_of
from tests.clips import index_of, write_video


def indices(source):
    """The numbers that ``frame_of`` hid in the frames, which are also those of the frames."""
    frames = list(source.frames())
    assert [frame.number for frame in frames] == [index_of(frame.image) for frame in frames]
    return [frame.number for frame in frames]


# Which frames


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1:30", 90),
        ("0:01:30.5", 90.5),
        ("2:00:00", 7200),
        (".25", 0.25),
        ("75.5", 75.5),
    ],
)
def test_times_are_seconds_or_clocks(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "1:60", "1:75:00", "-3", "abc", "1:2:3:4", "1e3", "nan"])
def test_other_times_are_refused(text):
    with pytest.raises(ValueError, match="h:mm:ss"):
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
def test_ranges_that_hold_nothing_are_refused(bad):
    with pytest.raises(InputError, match="must be"):
        Selection(**bad)


def test_a_range_behind_the_end_says_how_long_the_video_is(tmp_path, capsys):
    path = write_video(tmp_path / "clip.mp4")
    complaint = r"no frame lies in the range \(start 7.0\); it has 20 frames, .* 1.900 s"
    with pytest.raises(InputError, match=complaint):
        open_source(path, Selection(start=7.0))
    assert cli.main(["track", str(path), "--start", "0:07"]) == 2
    assert "it has 20 frames" in capsys.readouterr().err


def test_a_selection_is_the_same_by_known_times_and_on_the_way():
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


# Names


def test_an_origin_holds_no_secret_and_tells_addresses_apart():
    first, second = (origin_of(f"http://me:pw@host/clip?token={word}") for word in ("ab", "cd"))
    assert first.startswith("http://host/clip?") and first != second
    assert "pw" not in first and "token" not in first and "ab" not in first.partition("?")[0]


def test_words_are_sources_or_overrides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.mp4").touch()
    words = ["x.mp4", "a=b.mp4", "http://host/?q=1", "seed=3", "tracking.rule=query", "./k=v.mp4"]
    assert split_words(words) == (
        ["x.mp4", "a=b.mp4", "http://host/?q=1", "./k=v.mp4"],
        ["seed=3", "tracking.rule=query"],
    )
