"""Shipped weights: they load, match their cards, detect and track."""

from pathlib import Path

import pytest
from safetensors import safe_open

import queryinst_vis
from queryinst_vis.data.synthetic import PRESETS, generate
from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.formats.results import youtube_vis_entries
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.result import store
from queryinst_vis.inference.track import track_video
from queryinst_vis.utils.files import read_json
from queryinst_vis.video.writer import VideoWriter

FOLDER = Path(queryinst_vis.__file__).parent / "weights"
NAMES = ("people", "shapes")


def test_shipped_weights_are_below_the_size_limit():
    files = sorted(FOLDER.glob("*.safetensors"))
    assert tuple(file.stem for file in files) == NAMES
    assert sum(file.stat().st_size for file in files) <= 30_000_000


@pytest.mark.parametrize("name", NAMES)
def test_every_model_card_states_the_origin(name):
    card = (FOLDER / f"{name}.md").read_text()
    for heading in ("Data", "Licence", "Recipe", "Seed", "Scores", "Reproduce"):
        assert f"## {heading}" in card


@pytest.mark.parametrize("name", NAMES)
def test_shipped_weights_are_half_precision_inference_weights(name):
    with safe_open(FOLDER / f"{name}.safetensors", framework="pt") as file:
        kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
        heads = {key.split(".")[1] for key in file.keys() if key.startswith("mask_heads.")}  # noqa: SIM118
    assert kinds <= {"F16", "I64"} and len(heads) == 1


@pytest.mark.parametrize(("name", "queries"), [("people", 50), ("shapes", 10)])
def test_shipped_weights_carry_model_and_classes(name, queries):
    model, config = queryinst_vis.load_model(name, "cpu")
    assert len(model.queries) == queries == config.model.num_queries
    assert config.data.train.annotations is None
    assert "person" in config.model.classes or "circle" in config.model.classes


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """One synthetic video outside the training data: frames and ground truth."""
    folder = tmp_path_factory.mktemp("clip") / "set"
    generate(folder, PRESETS["bench"].override(videos=1, frames=12), seed=5)
    return folder


def test_the_shapes_weights_track_a_new_clip(clip):
    from queryinst_vis.utils.images import read_image

    gt = read_json(clip / "youtube_vis.json", "ground truth")
    tracker = queryinst_vis.VideoTracker.from_pretrained("shapes", device="cpu")
    with TrackStore() as tracks:
        for name in gt["videos"][0]["file_names"]:
            detections = tracker.update(read_image(clip / "frames" / name))
            ids = detections.track_ids.tolist()
            assert len(set(ids)) == len(ids)
            store(tracks, detections)
        entries = youtube_vis_entries(tracks, gt["videos"][0]["id"], [1] * 6)
    for annotation in gt["annotations"]:  # where and when, whatever the class
        annotation["category_id"] = 1
    assert evaluate_youtube_vis(gt, entries)["AR10"] > 0.2


def test_three_lines_of_python_and_the_command_agree(clip, tmp_path):
    from queryinst_vis.utils.images import read_image

    video = tmp_path / "clip.mp4"
    with VideoWriter(video, 10) as writer:
        for file in sorted((clip / "frames").rglob("*.jpg")):
            writer.write(read_image(file))
    summary = track_video(video, tmp_path / "out", "shapes", device="cpu")
    assert summary.frames == 12 and summary.tracks > 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "clip.mp4",
        "results.json",
        "run.json",
        "timeline.png",
        "tracks.jsonl",
    }
    tracker = queryinst_vis.VideoTracker.from_pretrained(
        "shapes", "cpu", ["inference.score_threshold=0.3"]
    )
    ids = {int(i) for _, found in tracker.stream(video) for i in found.track_ids}
    assert len(ids) == summary.tracks
    entries = read_json(tmp_path / "out" / "results.json", "results")
    assert 0 < len(entries) <= len(ids)
    assert all(len(entry["segmentations"]) == 12 for entry in entries)
