"""The timeline of a video: one row per track, bars where it is visible."""

import os

import cv2
import numpy as np
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.masks import encode_rle
from queryinst_vis.visualization import draw_timeline, track_colour
from queryinst_vis.visualization import timeline as timeline_module

CLASSES = ["person", "car"]


def track(track_id, frames, label=0):
    return track_id, set(frames), label


def store(*tracks, length=100):
    """The TrackStore of a video with these tracks visible in these frames."""
    store, rle = TrackStore(), encode_rle(np.ones((2, 2), dtype=bool))
    for frame in range(length):
        seen = [(track_id, label) for track_id, frames, label in tracks if frame in frames]
        ids, labels = zip(*seen, strict=True) if seen else ((), ())
        count = len(ids)
        store.add((2, 2), ids, [0.9] * count, labels, [[0, 0, 2, 2]] * count, [rle] * count)
    return store


def timeline(tmp_path, tracks, fps=10.0):
    path = tmp_path / "timeline.png"
    with tracks:
        draw_timeline(tracks, CLASSES, fps, path)
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture[:, :, ::-1]


def bars(picture, track_id):
    """Runs of a track's colour along the row where it is longest, as shares of the time axis."""
    colour = (picture == track_colour(track_id)).all(axis=2)
    assert colour.any(), f"no bar has the colour of track {track_id}"
    row = int(colour.sum(axis=1).argmax())
    edges = np.flatnonzero(np.diff(np.pad(colour[row].astype(int), 1)))
    return row, edges.reshape(-1, 2)


def test_bars_cover_the_frames_in_which_a_track_is_visible(tmp_path):
    whole = track(0, range(100))
    gap = track(1, [*range(20, 40), *range(60, 100)])
    picture = timeline(tmp_path, store(whole, gap))
    _, [(start, end)] = bars(picture, 0)
    _, parts = bars(picture, 1)
    shares = (parts - start) / (end - start)
    np.testing.assert_allclose(shares, [[0.2, 0.4], [0.6, 1.0]], atol=0.005)


def test_rows_are_sorted_by_first_appearance(tmp_path):
    picture = timeline(
        tmp_path, store(track(0, range(50, 60)), track(1, range(5, 9)), track(2, range(70)))
    )
    rows = {track_id: bars(picture, track_id)[0] for track_id in range(3)}
    assert rows[2] < rows[1] < rows[0]


def test_rows_and_both_axes_are_labelled(tmp_path, figures):
    timeline(tmp_path, store(track(3, range(100), label=1), track(8, range(9))), fps=25.0)
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["#3 car", "#8 person"]
    assert axes.get_xlim() == (0, 4.0) and axes.get_xlabel() == "seconds"
    frames = axes.child_axes[0]
    assert frames.get_xlabel() == "frames"
    np.testing.assert_allclose(frames.get_xlim(), (0, 100))
    assert axes.get_title(loc="left") == "2 tracks in 100 frames, 4.0 seconds"


@pytest.mark.parametrize("length", [0, 1, 100])
def test_a_video_without_tracks_has_an_empty_timeline(tmp_path, length):
    assert timeline(tmp_path, store(length=length)).size > 0


def test_the_height_is_bounded_for_many_tracks(tmp_path):
    few = timeline(tmp_path, store(*(track(i, [i]) for i in range(10)), length=2000))
    many = timeline(tmp_path, store(*(track(i, [i]) for i in range(200)), length=2000))
    crowd = timeline(tmp_path, store(*(track(i, [i]) for i in range(450)), length=2000))
    assert few.shape[0] < many.shape[0] <= 3600
    assert crowd.shape[0] <= 3600


def test_of_too_many_tracks_the_longest_are_drawn(tmp_path, figures):
    short = [track(i, [i]) for i in range(1, 430)]
    timeline(tmp_path, store(*short, track(430, range(9, 99)), length=2000))
    axes = figures[0].axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert len(names) == 400 and "#430 person" in names
    assert axes.get_title(loc="left").startswith("the 400 longest of 430 tracks in 2000 frames")


def test_gaps_narrower_than_a_pixel_take_no_memory():
    """A track that flickers for hours takes no more memory than one value per column."""
    with store(track(0, range(0, 10_000, 3)), length=10_000) as tracks:
        [flickering] = tracks
        assert timeline_module.Row.of(flickering, 10_000).runs == [(0, 10_000)]
        assert len(timeline_module.Row.of(flickering, 3000).runs) == 3334


def test_a_timeline_that_cannot_be_written_leaves_no_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*timeline.png"):
        draw_timeline(store(), CLASSES, 10.0, tmp_path / "file" / "timeline.png")
    assert os.listdir(tmp_path) == ["file"]


def test_drawing_does_not_use_pyplot(tmp_path):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()  # of other tests in this process
    timeline(tmp_path, store(track(0, [1])))
    assert plt.get_fignums() == before


def test_bars_and_axes_follow_frame_numbers_and_timestamps(tmp_path, figures):
    """Every tenth frame was processed, and the second half runs at half speed."""
    tracks, rle = TrackStore(), encode_rle(np.ones((2, 2), dtype=bool))
    seconds = [7.0, 8.0, 9.0, 11.0, 13.0]
    for number, second in enumerate(seconds):
        found = ([0], [0.9], [0], [[0, 0, 2, 2]], [rle]) if number in (1, 2) else ([],) * 5
        tracks.add((2, 2), *found, seconds=second, number=10 * number)
    timeline(tmp_path, tracks, fps=1.0)
    [axes] = figures[0].axes
    [bar] = axes.collections[0].get_paths()
    assert (bar.vertices[:, 0].min(), bar.vertices[:, 0].max()) == (1.0, 4.0)
    assert axes.get_xlim() == (0.0, 7.0)
    [frames] = axes.child_axes
    to_seconds = frames.xaxis.get_transform()
    np.testing.assert_allclose(to_seconds.inverted().transform([0, 1, 3, 6]), [0, 10, 25, 40])
    np.testing.assert_allclose(to_seconds.transform([0, 10, 25, 40]), [0, 1, 3, 6])
    assert "5 frames, 7.0 seconds" in axes.get_title(loc="left")
