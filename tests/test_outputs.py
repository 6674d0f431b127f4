"""The outputs of ``track --save``: files, tracks.jsonl, run.json, and what is tracked."""

import hashlib
import json
import os

import numpy as np
import pytest
import torch

from queryinst_vis import cli
from queryinst_vis.checkpoints.catalogue import find_weights
from queryinst_vis.cli.output_arguments import DEFAULT_SAVE, ENCODERS, SAVE_HELP
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.formats.convert_results import convert_results
from queryinst_vis.formats.track_lines import read_track_lines
from queryinst_vis.formats.track_store import TrackStore, VideoInfo
from queryinst_vis.inference import outputs, track
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.track import run_tracker, track_video
from queryinst_vis.masks import decode_rle
from queryinst_vis.report.outputs import ALL_OUTPUTS
from queryinst_vis.structures import Detections
from queryinst_vis.video import encoders
from queryinst_vis.video.source import open_source
from tests.tiny import CLASSES, HEIGHT, WIDTH, draw_frame, rectangles
from tests.tracking_support import FRAMES, KnowingTracker, rectangle


def test_only_the_outputs_named_by_save_are_written(tracked):
    folder = tracked("csv", "jsonl")
    names = ["detections.csv", "run.json", "tracks.csv", "tracks.jsonl"]
    assert sorted(os.listdir(folder)) == names


def test_an_unknown_output_is_refused_before_tracking(video, out, loaded):
    with pytest.raises(InputError, match=r"'jsnl' .*'json"):
        track_video(video, out, save=["jsnl"])
    assert loaded == [] and not out.exists()


def test_recordings_that_cannot_be_repeated_are_replaced_only_with_overwrite(out, loaded):
    frames = np.stack([draw_frame(index) for index in range(2)])
    source = open_source(frames)
    track_video(source, out, save=["jsonl"])
    for again in (source, open_source(frames)):
        with pytest.raises(InputError, match="--overwrite"):
            track_video(again, out, save=["jsonl"])
    track_video(open_source(frames), out, save=["jsonl"], overwrite=True)


def test_a_source_without_frames_leaves_no_files(out, loaded):
    with pytest.raises(InputError, match="has no frame"):
        track_video(iter([]), out, save=["json", "csv"])
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_help_lists_every_output():
    assert list(SAVE_HELP) == list(ALL_OUTPUTS)
    assert list(ENCODERS) == [*encoders.ENCODERS, encoders.AUTO]
    assert ",".join(TrackOptions().save) == DEFAULT_SAVE


def test_remaining_files_of_an_earlier_run_are_reported(tracked):
    tracked("csv", "jsonl")
    with pytest.warns(InputWarning, match=r"out: detections\.csv, tracks\.csv"):
        folder = tracked("jsonl", "json")
    assert json.loads((folder / "run.json").read_text())["files"] == [
        *("results.json", "tracks.jsonl")
    ]


# tracks.jsonl


def test_tracks_jsonl_starts_with_a_header(tracked):
    header, *frames = map(json.loads, (tracked("jsonl") / "tracks.jsonl").open())
    assert (header["format"], header["version"]) == ("queryinst-vis tracks", 1)
    assert header["video"] == {"name": "clip", "width": WIDTH, "height": HEIGHT, "fps": 10.0}
    assert header["classes"] == CLASSES
    assert header["weights"]["name"] == "people"
    assert header["package"].startswith("queryinst-vis ")
    assert len(frames) == FRAMES


def test_each_line_holds_all_instances_of_a_frame(tracked):
    frame = json.loads((tracked("jsonl") / "tracks.jsonl").read_text().splitlines()[6])
    box, crate = frame["instances"]
    assert (frame["frame"], frame["seconds"]) == (5, pytest.approx(0.5))
    assert (box["track_id"], box["class_name"], box["score"]) == (0, "box", 0.9)
    assert (crate["track_id"], crate["class_name"], crate["score"]) == (1, "crate", 0.6)
    for found, corners in zip((box, crate), rectangles(5), strict=True):
        assert found["box"] == pytest.approx(corners, abs=0.01)
        np.testing.assert_array_equal(decode_rle(found["segmentation"]), rectangle(*corners))


def test_tracks_jsonl_is_read_back(tracked):
    with TrackStore() as tracks:
        info = read_track_lines(tracked("jsonl") / "tracks.jsonl", tracks)
        assert info == VideoInfo("clip", 10.0, CLASSES)
        assert (tracks.length, tracks.frame_size) == (FRAMES, (HEIGHT, WIDTH))
        box, crate = tracks
        assert list(box.frames()) == list(range(FRAMES))
        assert list(crate.frames()) == list(range(4, FRAMES))
        assert (crate.label, crate.score) == (1, pytest.approx(0.6))
        assert list(tracks.frame_times()) == pytest.approx([n / 10 for n in range(FRAMES)])


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (0, {"format": "other"}, "has no format"),
        (0, {"version": 2}, "version 2, this program reads 1"),
        (0, {"classes": ["box", "box"]}, "distinct names"),
        (5, {"seconds": "soon"}, "line 6: `seconds` must be a number"),
        (5, {"frame": None}, "line 6: `frame` must be of type int"),
        (5, {"damaged": "yes"}, "line 6: `damaged` must be true or false"),
    ],
)
def test_malformed_lines_are_refused_with_their_number(tracked, number, change, message):
    path = tracked("jsonl") / "tracks.jsonl"
    lines = path.read_text().splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), **change})
    path.write_text("\n".join(lines))
    with TrackStore() as tracks, pytest.raises(InputError, match=message):
        read_track_lines(path, tracks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_name": "dog"}, "class 'dog' is not in the first line"),
        ({"score": 2}, "`score` must be from 0 to 1"),
        ({"box": [1, 2]}, r"`box` must be \[x1, y1, x2, y2\]"),
        ({"segmentation": {"size": [1, 1], "counts": "1"}}, "the mask is 1x1 pixels"),
    ],
)
def test_a_malformed_instance_is_refused_with_its_place(tracked, change, message):
    path = tracked("jsonl") / "tracks.jsonl"
    lines = path.read_text().splitlines()
    frame = json.loads(lines[2])
    frame["instances"][0].update(change)
    lines[2] = json.dumps(frame)
    path.write_text("\n".join(lines))
    with TrackStore() as tracks, pytest.raises(InputError, match=f"line 3, instance 0.*{message}"):
        read_track_lines(path, tracks)


# convert-results


def test_converting_tracks_jsonl_gives_the_results_track_writes(tracked, tmp_path):
    folder = tracked("jsonl", "json")
    assert (
        cli.main(["convert-results", str(folder / "tracks.jsonl"), str(tmp_path / "r.json")]) == 0
    )
    ours, theirs = (
        json.loads(p.read_text()) for p in (tmp_path / "r.json", folder / "results.json")
    )
    assert [entry.pop("score") for entry in ours] == pytest.approx(
        [entry.pop("score") for entry in theirs]
    )
    assert ours == theirs


@pytest.mark.parametrize("target", ["mots", "coco-video"])
def test_converting_tracks_jsonl_gives_the_files_save_writes(tracked, tmp_path, target):
    folder = tracked("jsonl", target)
    convert_results(folder / "tracks.jsonl", tmp_path / "there", to=target)
    if target == "mots":
        written = (tmp_path / "there" / "clip.txt").read_text()
        assert written == (folder / "mots" / "clip.txt").read_text()
    else:
        ours = json.loads((tmp_path / "there").read_text())
        theirs = json.loads((folder / "coco_video.json").read_text())
        assert [a["segmentation"] for a in ours["annotations"]] == [
            a["segmentation"] for a in theirs["annotations"]
        ]
        assert (ours["images"], ours["categories"]) == (theirs["images"], theirs["categories"])


def test_only_tracks_jsonl_converts_without_ground_truth(tracked, tmp_path):
    folder = tracked("jsonl", "json")
    with pytest.raises(InputError, match="with --gt"):
        convert_results(folder / "results.json", tmp_path / "mots")
    with pytest.raises(InputError, match="leave out --gt"):
        convert_results(folder / "tracks.jsonl", tmp_path / "mots", folder / "results.json")


# run.json and the summary


def test_run_json_records_how_the_files_were_made(tracked, video):
    folder = tracked("json", score_threshold=0.4, stride=2)
    run = json.loads((folder / "run.json").read_text())
    weights = hashlib.sha256(find_weights("people").read_bytes()).hexdigest()
    assert run["weights"] == {"name": "people", "sha256": weights}
    assert run["source"]["origin"] == str(video)
    assert run["source"]["fingerprint"]["bytes"] == video.stat().st_size
    assert (run["source"]["fps"], run["source"]["frame_times"]) == (5.0, None)
    assert (run["options"]["score_threshold"], run["options"]["stride"]) == (0.4, 2)
    assert (run["frames"], run["tracks"]) == (FRAMES // 2, 2)
    assert run["found"] == {"box": 1, "crate": 1} and run["hint"] is None
    assert set(run["seconds"]) == {"decoding", "tracking", "writing", "total"}
    assert run["files"] == ["results.json"]


def test_a_folder_is_recognised_by_its_run_json(tracked, video, tmp_path):
    folder = tracked("csv")
    tracked("csv")  # of the same video they are replaced
    other = video.rename(tmp_path / "other.mp4")
    with pytest.raises(InputError, match="another video"):
        track_video(other, folder, save=["csv"])


def test_run_json_has_the_mean_embedding_of_each_track(video, out):
    class Describing(KnowingTracker):
        def update(self, frame, time=None):
            found = super().update(frame, time)
            number = float(self.frames[-1])
            found.embeddings = torch.tensor([[number, 1.0], [-number, 2.0]])[: len(found)]
            return found

    source = open_source(video)
    run_tracker(Describing(), source, outputs.OutputPlan(out, source, TrackOptions(save=["json"])))
    found = json.loads((out / "run.json").read_text())["embeddings"]
    assert found == {"0": [5.5, 1.0], "1": [-7.5, 2.0]}  # of frames 0 to 11, and 4 to 11


class Blind(KnowingTracker):
    """A tracker without detections."""

    def update(self, frame, time=None):
        return super().update(frame, time)[[]]


def test_an_empty_result_prints_a_suggestion(video, out, monkeypatch, capsys):
    monkeypatch.setattr(track, "load_tracker", lambda *_: Blind())
    words = ["track", str(video), "--out", str(out), "--save", "json,mots,csv,coco-video,jsonl"]
    assert cli.main([*words, "--conf", "0.5"]) == 0
    hint = json.loads((out / "run.json").read_text())["hint"]
    assert "these weights (people) detect 'box', 'crate'" in hint
    assert "--weights shapes or coco" in hint and "--conf 0.25" in hint
    printed = capsys.readouterr()
    assert hint in printed.err and hint not in printed.out
    assert "0 tracks in 12 frames" in printed.out
    assert f"wrote {out / 'tracks.csv'} (table)" in printed.out


# Choosing what is followed


def test_classes_and_thresholds_reach_the_tracker(video, out, monkeypatch):
    class Listening(KnowingTracker):
        def follow_video(self, frames, batch=1, **options):
            heard.append(options)
            return super().follow_video(frames, batch)

    heard, thresholds = [], []
    monkeypatch.setattr(
        track, "load_tracker", lambda *given: thresholds.append(given[0].conf) or Listening()
    )
    words = ["track", str(video), "--out", str(out), "--save", "json", "--conf", "0.45"]
    assert cli.main([*words, "--classes", "box, crate", "--iou", "0.6"]) == 0
    assert heard == [{"classes": ("box", "crate"), "iou": 0.6}] and thresholds == [0.45]


def test_an_unknown_class_is_refused_with_the_nearest_name(video, out, capsys):
    words = ["track", str(video), "--out", str(out), "--weights", "shapes", "--device", "cpu"]
    assert cli.main([*words, "--classes", "sqare"]) == 2
    assert (
        "class 'sqare': not a class of these weights; did you mean 'square'"
        in capsys.readouterr().err
    )
    assert not out.exists()


def test_no_video_writes_no_annotated_video(video, out, loaded):
    assert cli.main(["track", str(video), "--out", str(out), "--no-video"]) == 0
    names = ["results.json", "run.json", "timeline.png", "tracks.jsonl"]
    assert sorted(os.listdir(out)) == names


def test_detections_without_masks_are_written_as_box_masks(video, out):
    class Boxes(KnowingTracker):
        def update(self, frame, time=None):
            found = super().update(frame, time)
            return Detections(
                found.boxes,
                found.scores,
                found.labels,
                found.image_size,
                track_ids=found.track_ids,
            )

    source = open_source(video)
    run_tracker(Boxes(), source, outputs.OutputPlan(out, source, TrackOptions(save=["jsonl"])))
    frame = json.loads((out / "tracks.jsonl").read_text().splitlines()[1])
    mask = decode_rle(frame["instances"][0]["segmentation"])
    np.testing.assert_array_equal(mask, rectangle(*rectangles(0)[0]))
