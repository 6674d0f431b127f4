"""``review`` on the command line: input formats, --apply and --export."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.cli import main
from queryinst_vis.data.convert import convert_cvat
from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.formats.cvat_video import outline_of
from queryinst_vis.formats.losses import Losses
from queryinst_vis.formats.run_file import fingerprint
from queryinst_vis.formats.track_lines import write_track_lines
from queryinst_vis.formats.track_store import TrackStore, VideoInfo
from queryinst_vis.masks import decode_rle, encode_rle, to_rle
from queryinst_vis.models.build import build_model
from queryinst_vis.review import Check, Merge, ReviewSession, SetName, Split, to_json
from queryinst_vis.video.writer import VideoWriter
from tests.review_support import HEIGHT, WIDTH, frames_of, line, square, write_results

LENGTH = 8


def write_video(path):
    """Write a video in which the grey level encodes the frame number."""
    with VideoWriter(path, 25.0) as writer:
        for frame in range(LENGTH):
            writer.write(np.full((HEIGHT, WIDTH, 3), 10 + 20 * frame, dtype=np.uint8))
    return path


@pytest.fixture
def folder(tmp_path):
    """Output of ``track`` for a video: two tracks of one square, and one of another."""
    video = write_video(tmp_path / "street.mp4")
    out = tmp_path / "out"
    out.mkdir()
    tracks = {1: line(range(5), 2), 2: line(range(LENGTH), 12), 3: line(range(4, LENGTH), 2)}
    write_results(out, tracks, LENGTH, labels={2: 1})
    source = {"origin": str(video), "fingerprint": fingerprint(video)}
    run = {"format": "queryinst-vis run", "version": 1, "source": source}
    (out / "run.json").write_text(json.dumps(run))
    return out


def write_actions(path, *actions):
    path.write_text("".join(json.dumps(to_json(action)) + "\n" for action in actions))
    return path


def review(*words):
    return main(["review", *map(str, words)])


def errors(capsys):
    """The lines on standard error."""
    return capsys.readouterr().err.strip().splitlines()


def test_actions_of_a_file_are_applied_and_stored(folder, tmp_path, capsys):
    actions = write_actions(
        tmp_path / "a.jsonl", Merge(1, 3, decide="keep first"), SetName(1, "Anna"), Split(2, 4)
    )
    assert review(folder, "--apply", actions) == 0
    assert "3 actions applied; 3 tracks" in capsys.readouterr().out
    with ReviewSession.open(folder) as session:
        assert frames_of(session, 1) == list(range(LENGTH))
        assert frames_of(session, 4) == list(range(4, LENGTH))


def test_no_action_is_applied_if_a_conflict_is_undecided(folder, tmp_path, capsys):
    actions = write_actions(tmp_path / "a.jsonl", Split(2, 4), Merge(1, 3))
    assert review(folder, "--apply", actions) == 2
    [message] = errors(capsys)
    assert re.search(r"a.jsonl, action 2: tracks 1 and 3 are both in 1 frames \(4\)", message)
    with ReviewSession.open(folder) as session:
        assert not session.records


def test_actions_with_ids_are_applied_once(folder, tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text(json.dumps({**to_json(Split(2, 4)), "id": "one"}) + "\n")
    assert review(folder, "--apply", tmp_path / "a.jsonl") == 0
    assert review(folder, "--apply", tmp_path / "a.jsonl") == 0
    assert "0 actions applied, 1 already in the journal; 4 tracks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"action": "splt"}', "line 1: `action` is 'splt'; choose from"),
        ("\n{", "line 2: not JSON"),
        ('{"action": "undo", "id": 3}', "`id` must be short text"),
        ('{"action": "undo"}', "action 1: there is nothing to undo"),
        ("[" * 100_000, "line 1: not JSON"),
    ],
)
def test_an_invalid_action_file_is_a_one_line_error(folder, tmp_path, capsys, text, message):
    (tmp_path / "a.jsonl").write_text(text)
    assert review(folder, "--apply", tmp_path / "a.jsonl") == 2
    [found] = errors(capsys)
    assert message in found


def test_the_new_path_of_a_moved_video_is_required_and_verified(folder, tmp_path, capsys):
    (tmp_path / "street.mp4").rename(tmp_path / "moved.mp4")
    actions = write_actions(tmp_path / "a.jsonl", Split(2, 4))
    assert review(folder, "--apply", actions) == 2
    assert "no longer exists; give its new path with --video" in errors(capsys)[0]
    (tmp_path / "other.mp4").write_bytes(b"another video")
    assert review(folder, "--apply", actions, "--video", tmp_path / "other.mp4") == 2
    assert "is not the tracked video" in errors(capsys)[0]
    assert review(folder, "--apply", actions, "--video", tmp_path / "moved.mp4") == 0


def test_a_changed_folder_of_frames_is_refused(folder, tmp_path, capsys):
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(LENGTH):
        Image.new("RGB", (WIDTH, HEIGHT)).save(frames / f"{number}.png")
    run = json.loads((folder / "run.json").read_text())
    run["source"] = {"origin": str(frames), "fingerprint": fingerprint(frames)}
    (folder / "run.json").write_text(json.dumps(run))
    assert review(folder, "--export", tmp_path / "set", "--frames", "all") == 0
    (frames / "3.png").unlink()
    assert review(folder, "--export", tmp_path / "more", "--frames", "all") == 2
    assert "is not the tracked video" in errors(capsys)[0]


def test_exporting_original_frames_of_a_redacted_run_warns(folder, tmp_path, capsys):
    run = json.loads((folder / "run.json").read_text())
    run["options"] = {"blur": ["person", 7], "cut_out": []}
    (folder / "run.json").write_text(json.dumps(run))
    assert review(folder, "--export", tmp_path / "set", "--frames", "all") == 0
    error = capsys.readouterr().err
    assert f"the {LENGTH} frames of this export show the original pixels" in error
    assert "'person'" in error and "'7'" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "mots"], "--export"),
        (["--export", "x"], "no frame is marked as checked"),
        (["--gt", "x.json", "--export", "x"], "leave out --gt"),
    ],
)
def test_invalid_options_are_a_one_line_error(folder, capsys, words, message):
    assert review(folder, *words) == 2
    assert message in errors(capsys)[0]


def correct(folder):
    """Merge tracks 1 and 3, name the result Anna, and mark frames 2 to 5 as checked."""
    with ReviewSession.open(folder) as session:
        session.apply(Merge(1, 3, decide="keep first"))
        session.apply(SetName(1, "Anna"))
        session.apply(Check(frames=((2, 5),)))


def test_checked_frames_are_exported_as_youtube_vis_with_images(folder, tmp_path, capsys):
    correct(folder)
    assert review(folder, "--export", tmp_path / "set") == 0
    out = capsys.readouterr().out
    assert "youtube-vis, 2 tracks in 4 of 8 frames; not kept: 8 scores" in out
    content = json.loads((tmp_path / "set" / "annotations.json").read_text())
    [video] = content["videos"]
    assert video["file_names"] == [f"street/{number:06d}.jpg" for number in range(2, 6)]
    for number, name in enumerate(video["file_names"], 2):
        with Image.open(tmp_path / "set" / "frames" / name) as image:
            assert np.asarray(image).mean() == pytest.approx(10 + 20 * number, abs=4)
    first, second = content["annotations"]
    assert (first["track_id"], first["name"], second["track_id"]) == (1, "Anna", 2)
    assert [decode_rle(mask).argmax() % WIDTH for mask in first["segmentations"]] == [2, 3, 4, 5]
    assert [category["name"] for category in content["categories"]] == ["person", "dog"]


def test_damaged_frames_are_not_exported_as_images(folder, tmp_path, capsys):
    frames = tmp_path / "frames"
    frames.mkdir()
    for frame in range(LENGTH):
        picture = Image.fromarray(np.full((HEIGHT, WIDTH, 3), 10 + 20 * frame, dtype=np.uint8))
        picture.save(frames / f"{frame}.png")
    (frames / "3.png").write_bytes(b"no image")  # read as another copy of frame 2
    (folder / "run.json").unlink()
    words = [folder, "--video", frames, "--export", tmp_path / "set", "--frames", "all"]
    assert review(*words) == 0
    assert "1 damaged frames" in capsys.readouterr().out
    content = json.loads((tmp_path / "set" / "annotations.json").read_text())
    [video] = content["videos"]
    kept = [0, 1, 2, 4, 5, 6, 7]
    assert video["file_names"] == [f"street/{number:06d}.jpg" for number in kept]
    assert video["length"] == 7
    for number, name in zip(kept, video["file_names"], strict=True):
        with Image.open(tmp_path / "set" / "frames" / name) as image:
            assert np.asarray(image).mean() == pytest.approx(10 + 20 * number, abs=4)
    second = content["annotations"][1]["segmentations"]
    assert [decode_rle(mask).argmax() % WIDTH for mask in second] == kept


def test_an_export_can_be_evaluated_and_trained_on(folder, tmp_path, capsys):
    from tests.tiny import tiny_config

    correct(folder)
    assert review(folder, "--export", tmp_path / "set", "--frames", "all") == 0
    annotations = tmp_path / "set" / "annotations.json"
    perfect = [
        {key: each[key] for key in ("video_id", "category_id", "segmentations")} | {"score": 1.0}
        for each in json.loads(annotations.read_text())["annotations"]
    ]
    (tmp_path / "perfect.json").write_text(json.dumps(perfect))
    assert main(["eval-video", str(annotations), str(tmp_path / "perfect.json")]) == 0
    assert evaluate_youtube_vis(str(annotations), perfect)["AP"] == pytest.approx(1)

    torch.manual_seed(0)
    config = tiny_config()
    weights = tmp_path / "tiny.safetensors"
    save_weights(weights, build_model(config), config)
    words = ["finetune", weights, annotations, "--images", tmp_path / "set" / "frames"]
    words += ["--work-dir", tmp_path / "work", "train.max_steps=2", "--held-out", "0"]
    assert main([str(word) for word in words]) == 0
    assert (tmp_path / "work" / "final.safetensors").is_file()
    capsys.readouterr()


def test_export_as_coco_video_and_mots(folder, tmp_path, capsys):
    correct(folder)
    assert review(folder, "--export", tmp_path / "a", "--format", "coco-video") == 0
    assert "not kept: 1 names of identities" in capsys.readouterr().out
    content = json.loads((tmp_path / "a" / "coco_video.json").read_text())
    assert {each["track_id"] for each in content["annotations"]} == {1, 2}
    assert review(folder, "--export", tmp_path / "b", "--format", "mots") == 0
    assert "16 scores" in capsys.readouterr().out
    text = (tmp_path / "b" / "street.txt").read_text().splitlines()
    assert text[0].startswith("1 2001 2 24 32 ")
    assert len(text) == 16


def test_cvat_export_round_trip(folder, tmp_path, capsys):
    correct(folder)
    assert review(folder, "--export", tmp_path / "set", "--frames", "all") == 0
    assert review(folder, "--export", tmp_path / "cvat", "--format", "cvat") == 0
    (tmp_path / "set" / "frames" / "street").rename(tmp_path / "cvat" / "images")
    for path in (tmp_path / "cvat" / "images").iterdir():
        path.rename(path.with_name(f"frame_{path.name}"))
    convert_cvat(tmp_path / "cvat", tmp_path / "back.json")
    before = json.loads((tmp_path / "set" / "annotations.json").read_text())
    after = json.loads((tmp_path / "back.json").read_text())
    areas = [
        {names[each["category_id"]]: each["segmentations"] for each in content["annotations"]}
        for content in (before, after)
        for names in [{c["id"]: c["name"] for c in content["categories"]}]
    ]
    assert areas[0] == areas[1]
    root = ElementTree.parse(tmp_path / "cvat" / "annotations.xml").getroot()
    assert root.find(".//track[@id='1']/polygon/attribute[@name='name']").text == "Anna"


def test_a_cvat_track_is_outside_in_its_gaps(tmp_path):
    write_results(tmp_path, {1: line([0, 1, 4], 2)}, 6)
    assert review(tmp_path, "--export", tmp_path / "cvat", "--format", "cvat") == 0
    root = ElementTree.parse(tmp_path / "cvat" / "annotations.xml").getroot()
    shapes = {shape.get("frame"): shape.get("outside") for shape in root.iter("polygon")}
    assert shapes == {"0": "0", "1": "0", "2": "1", "4": "0", "5": "1"}


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        (lambda mask: None, {}),
        (lambda mask: mask.__setitem__((slice(12, 14), slice(20, 22)), True), {"parts": 1}),
        (lambda mask: mask.__setitem__((4, 5), False), {"holes": 1}),
        (lambda mask: mask.__setitem__((slice(3, 7), slice(4, 8)), np.eye(4) > 0), None),
    ],
    ids=["square", "two parts", "hole", "diagonal"],
)
def test_an_outline_is_exact_except_for_counted_losses(change, counted):
    mask = square(3, 2, side=6)
    change(mask)
    losses = Losses()
    rle = to_rle([[v for p in outline_of(encode_rle(mask), losses) for v in p]], HEIGHT, WIDTH, "")
    if counted is not None:
        assert {key.split()[2 if "parts" not in key else 3].strip(",") for key in +losses} == set(
            counted
        )
        assert (decode_rle(rle) == square(3, 2, side=6)).all()


def test_malicious_names_are_sanitized(tmp_path):
    with TrackStore() as store:
        box, rle = (1, 1, 5, 5), encode_rle(square(1, 1))
        store.add((HEIGHT, WIDTH), [1], [0.5], [0], [box], [rle])
        info = VideoInfo("../../evil", 25.0, ['<b a="1">&\x00'])
        write_track_lines(tmp_path / "tracks.jsonl", store, info)
    for to in ("cvat", "mots", "coco-video", "label-studio"):
        assert review(tmp_path, "--export", tmp_path / to, "--format", to) == 0
    assert [path.name for path in (tmp_path / "mots").iterdir()] == ["evil.txt"]
    root = ElementTree.parse(tmp_path / "cvat" / "annotations.xml").getroot()
    assert root.find("track").get("label") == '<b a="1">&\ufffd'


def test_label_studio_boxes_are_in_percent(folder, tmp_path, capsys):
    correct(folder)
    assert review(folder, "--export", tmp_path / "ls", "--format", "label-studio") == 0
    assert "16 masks, of which the boxes stay" in capsys.readouterr().out
    [task] = json.loads((tmp_path / "ls" / "tasks.json").read_text())
    assert task["data"] == {"video": "street.mp4"}
    first, second = task["annotations"][0]["result"]
    assert (first["value"]["labels"], first["meta"]) == (["person"], {"text": ["Anna"]})
    assert (second["value"]["labels"], second["value"]["framesCount"]) == (["dog"], LENGTH)
    sequence = first["value"]["sequence"]
    assert [key["enabled"] for key in sequence] == [True] * 7 + [False]
    assert sequence[2] == {
        "frame": 3,
        "time": 0.08,
        "enabled": True,
        "rotation": 0,
        "x": 6.25,
        "y": 8.3333,
        "width": 12.5,
        "height": 16.6667,
    }


@pytest.mark.parametrize("to", ["youtube-vis", "mots", "coco-video", "coco-video, some ids"])
def test_results_in_other_formats_are_reviewed(folder, tmp_path, capsys, to):
    results = tmp_path / ("results" if to == "mots" else "results.json")
    if to.startswith("coco-video"):
        entries = coco_video_entries(folder)
        for entry in entries[1:] if to.endswith("some ids") else []:
            del entry["video_id"]  # optional
        results.write_text(json.dumps(entries))
    else:
        words = ["convert-results", folder / "tracks.jsonl", results, "--to", to]
        assert main([str(word) for word in words]) == 0
        results = results / "street.txt" if to == "mots" else results
    track = 2001 if to == "mots" else 2  # ids are class * 1000 + number
    actions = write_actions(tmp_path / "a.jsonl", Split(track, 2))
    assert review(results, "--video", tmp_path / "street.mp4", "--apply", actions) == 0
    assert "1 actions applied; 4 tracks" in capsys.readouterr().out
    with ReviewSession.open(results, tmp_path / "street.mp4") as session:
        assert len(session) == LENGTH
        assert session.size == (HEIGHT, WIDTH)
        assert session.frame(4).seconds == pytest.approx(4 / 25)


def coco_video_entries(folder):
    frames = (folder / "tracks.jsonl").read_text().splitlines()[1:]
    return [
        {
            "image_id": number,
            "video_id": 1,
            "track_id": each["track_id"],
            "category_id": 1,
            "score": each["score"],
            "segmentation": each["segmentation"],
        }
        for number, text in enumerate(frames, 1)
        for each in json.loads(text)["instances"]
    ]


def test_missing_or_incomplete_results_are_a_one_line_error(folder, tmp_path, capsys):
    (tmp_path / "r.json").write_text(json.dumps(coco_video_entries(folder)))
    assert review(tmp_path / "r.json", "--export", tmp_path / "x") == 2
    assert "do not contain the number of frames" in errors(capsys)[0]
    assert review(tmp_path / "none", "--export", tmp_path / "x") == 2
    assert "no such file or folder" in errors(capsys)[0]
    (tmp_path / "empty").mkdir()
    assert review(tmp_path / "empty", "--export", tmp_path / "x") == 2
    assert "holds no tracks.jsonl" in errors(capsys)[0]
