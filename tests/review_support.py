"""Results of a small synthetic video, for review tests."""

import json

import numpy as np

from queryinst_vis.formats.track_lines import write_track_lines
from queryinst_vis.formats.track_store import TrackStore, VideoInfo
from queryinst_vis.masks import encode_rle
from queryinst_vis.review import ReviewSession

HEIGHT, WIDTH = 24, 32
FPS = 25.0
CLASSES = ["person", "dog"]


def square(x, y, side=4):
    """The mask of a square with the given top left pixel."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    x, y = int(x), int(y)
    mask[y : y + side, x : x + side] = True
    return mask


def write_results(folder, tracks, length, labels=None, name="street"):
    """Write a ``tracks.jsonl`` of squares.

    Args:
        folder: output folder.
        tracks: ``{frame: (x, y)}`` by track id.
        length: number of frames.
        labels: class index by track id, 0 by default.
        name: name of the video.
    """
    with TrackStore() as store:
        for frame in range(length):
            shown = {id_: track[frame] for id_, track in tracks.items() if frame in track}
            store.add(
                (HEIGHT, WIDTH),
                list(shown),
                [0.5 + id_ / 100 for id_ in shown],
                [(labels or {}).get(id_, 0) for id_ in shown],
                [(x, y, x + 4, y + 4) for x, y in shown.values()],
                [encode_rle(square(x, y)) for x, y in shown.values()],
                frame / FPS,
            )
        write_track_lines(folder / "tracks.jsonl", store, VideoInfo(name, FPS, CLASSES))
    return folder


def line(frames, y, x=0):
    """A square that moves by one pixel per frame."""
    return {frame: (x + frame, y) for frame in frames}


def shown(session):
    """The position of each track in each frame: ``{frame: {track id: (x, y)}}``."""
    return {
        frame: {
            region.track_id: tuple(int(side) for side in region.box[:2])
            for region in session.frame(frame).regions
        }
        for frame in range(len(session))
    }


def frames_of(session, track_id):
    """The frames of a track, by its spans."""
    return [frame for first, stop in session.track(track_id).spans for frame in range(first, stop)]


def journal_lines(folder):
    """The lines of the journal as JSON objects."""
    path = folder / "tracks.jsonl.review" / "journal.jsonl"
    return [json.loads(text) for text in path.read_text().splitlines()]


def reopened(folder):
    """``shown`` of a new session."""
    with ReviewSession.open(folder) as session:
        return shown(session)
