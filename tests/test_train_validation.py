"""Evaluation during training: the best weights, early stopping, and sets that cannot be scored."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.training_state import load_training_state
from queryinst_vis.checkpoints.weights import load_weights
from queryinst_vis.config import DatasetConfig
from queryinst_vis.errors import InputError
from queryinst_vis.inference import detector
from queryinst_vis.training import evaluate as evaluation
from queryinst_vis.training import validation
from queryinst_vis.training.train import train
from tests.tiny import (
    HEIGHT,
    WIDTH,
    draw_frame,
    oracle_detect,
    rectangles,
    tiny_config,
    write_images,
    write_videos,
)
from tests.training_support import metric, six_step_config

# Best weights and early stopping


def score_with(monkeypatch, scores):
    """Replace the evaluation: it finds these scores, one after another."""
    left = iter(scores)

    def evaluate(*_):
        score = next(left)
        return evaluation.Evaluation(score, {"AP": score}, [])

    monkeypatch.setattr(validation, "evaluate", evaluate)


def test_the_best_weights_are_kept(tmp_path, tiny_images, monkeypatch):
    score_with(monkeypatch, [0.2, 0.6, 0.4])
    config = tiny_config(train=tiny_images, val=tiny_images, track=False)
    config.train.max_steps = 3
    config.train.eval_every = 1
    train(config, tmp_path, devices=1)
    assert metric(tmp_path, "val/AP") == {1: 0.2, 2: 0.6, 3: 0.4}
    assert load_training_state(tmp_path / "last.ckpt").best == 0.6
    best, final = (load_weights(tmp_path / f"{name}.safetensors")[1] for name in ("best", "final"))
    assert not torch.equal(best["queries"], final["queries"])


def test_training_stops_early_after_patience_evaluations_without_improvement(
    tmp_path, tiny_images, monkeypatch, capsys
):
    config = tiny_config(train=tiny_images, val=tiny_images, track=False)
    config.train = replace(config.train, max_steps=9, eval_every=1, patience=2)
    score_with(monkeypatch, [0.2, 0.6, 0.4, 0.6])
    train(config, tmp_path, devices=1)
    state = load_training_state(tmp_path / "last.ckpt")
    assert (state.step, state.best, state.stale) == (4, 0.6, 2)
    said = capsys.readouterr()
    assert "stopped early: no better score in 2 evaluations (train.patience)" in said.out + said.err
    assert f"best weights (score 0.600) in {tmp_path / 'best.safetensors'}" in said.out + said.err
    _, final = load_weights(tmp_path / "final.safetensors")
    assert torch.equal(final["queries"], state.model["queries"])


def test_patience_counts_across_resumes(tmp_path, tiny_images, monkeypatch):
    config = tiny_config(train=tiny_images, val=tiny_images, track=False)
    config.train = replace(config.train, max_steps=2, eval_every=1, patience=2)
    score_with(monkeypatch, [0.6, 0.4, 0.5, 0.3])
    train(config, tmp_path, devices=1)
    config.train.max_steps = 9
    train(config, tmp_path, resume=True, devices=1)
    assert load_training_state(tmp_path / "last.ckpt").step == 3
    train(config, tmp_path, resume=True, devices=1)
    assert load_training_state(tmp_path / "last.ckpt").step == 3


def test_patience_without_a_validation_set_is_refused(tmp_path, tiny_images):
    config = tiny_config(train=tiny_images, track=False)
    config.train.patience = 2
    with pytest.raises(InputError, match=r"train\.patience 2: .*validation set"):
        train(config, tmp_path / "run", devices=1)


@pytest.mark.parametrize("kind", ["images", "videos", "boxes alone"])
def test_every_evaluation_writes_sample_pictures_with_ground_truth_and_detections(
    tmp_path, kind, monkeypatch
):
    monkeypatch.setattr(detector, "detect", oracle_detect)
    val = (write_videos if kind == "videos" else write_images)(tmp_path / "set")
    if kind == "boxes alone":
        content = json.loads(Path(val.annotations).read_text())
        for annotation in content["annotations"]:
            annotation["segmentation"] = []
        Path(val.annotations).write_text(json.dumps(content))
    config = tiny_config(train=val, val=val, track=False)
    config.train = replace(config.train, max_steps=2, eval_every=1, samples=2)
    train(config, tmp_path / "run", devices=1)
    found = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert found == ["step_0000001.jpg", "step_0000002.jpg", "training.jpg"]
    sheet = cv2.imread(str(tmp_path / "run" / "samples" / found[0]))
    tiles = [sheet[4 : 4 + HEIGHT, 4 + n * (WIDTH + 4) :][:, :WIDTH].astype(int) for n in range(4)]
    first, last = (2, 2) if kind == "videos" else (0, 3)  # of four frames the third is the middle
    for tile, frame in zip(tiles, (first, first, last, last), strict=True):
        for x0, y0, x1, y1 in rectangles(frame):  # annotated, and found
            inside = tile[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
            outlined = np.abs(tile - draw_frame(frame)[..., ::-1])[y0 : y1 + 1, x0 : x1 + 1]
            assert inside.size and outlined.max() > 60


def test_an_image_set_is_scored_by_mask_and_box_ap_after_the_last_step(tmp_path, tiny_images):
    config = tiny_config(train=tiny_images, val=tiny_images, track=False)
    config.train.max_steps = 1
    train(config, tmp_path, devices=1)
    assert set(metric(tmp_path, "val/segm_AP")) == set(metric(tmp_path, "val/bbox_AP")) == {1}
    model, _ = load_model(tmp_path / "best.safetensors", "cpu")
    assert model.track_head is None


def test_resuming_repeats_only_the_evaluation_that_failed(tmp_path, tiny_videos, monkeypatch):
    def fail(*arguments):
        raise OSError("disk gone")

    config = six_step_config(tiny_videos)
    config.data.val = tiny_videos
    config.train.eval_every = 2
    with monkeypatch.context() as patch:
        patch.setattr(validation, "evaluate", fail)
        with pytest.raises(OSError, match="disk gone"):
            train(config, tmp_path, devices=1)
    train(config, tmp_path, resume=True, devices=1)
    assert list(metric(tmp_path, "val/AP")) == [2, 4, 6], "the one that failed is made up for"
    ended = load_training_state(tmp_path / "last.ckpt")
    train(config, tmp_path, resume=True, devices=1)
    again = load_training_state(tmp_path / "last.ckpt")
    assert (again.best, again.stale, again.evaluated) == (ended.best, ended.stale, 6)


def test_a_validation_set_without_areas_is_refused_before_training(tmp_path, tiny_images):
    broken = DatasetConfig(str(tmp_path / "val.json"), tiny_images.images)
    content = json.loads(Path(tiny_images.annotations).read_text())
    for annotation in content["annotations"]:
        annotation.pop("area", None)
    Path(broken.annotations).write_text(json.dumps(content))
    with pytest.raises(InputError, match="area"):
        train(tiny_config(train=tiny_images, val=broken, track=False), tmp_path / "run", devices=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["images", "videos"])
@pytest.mark.parametrize("content", ["none", "crowds"])
def test_a_validation_set_without_objects_is_refused_before_training(
    tmp_path, tiny_images, kind, content
):
    val = (write_images if kind == "images" else write_videos)(tmp_path / "val")
    changed = json.loads(Path(val.annotations).read_text())
    if content == "none":
        changed["annotations"] = []
    for annotation in changed["annotations"]:
        annotation["iscrowd"] = 1
    Path(val.annotations).write_text(json.dumps(changed))
    config = tiny_config(train=tiny_images, val=val)
    with pytest.raises(InputError, match="has no object of the model's classes"):
        train(config, tmp_path / "run", devices=1)
    assert not (tmp_path / "run").exists()


def test_a_tracking_rule_without_its_track_head_is_refused_before_training(
    tmp_path, tiny_images, tiny_videos
):
    config = tiny_config(train=tiny_images, val=tiny_videos, track=False)
    config.tracking.rule = "masktrack"
    with pytest.raises(InputError, match="no track head"):
        train(config, tmp_path / "run", devices=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["images", "videos"])
def test_a_validation_set_in_which_some_masks_are_missing_is_refused(tmp_path, tiny_images, kind):
    val = (write_images if kind == "images" else write_videos)(tmp_path / "val")
    content = json.loads(Path(val.annotations).read_text())
    key, empty = {"images": ("segmentation", []), "videos": ("segmentations", None)}[kind]
    content["annotations"][1][key] = empty
    Path(val.annotations).write_text(json.dumps(content))
    config = tiny_config(train=tiny_images, val=val)
    with pytest.raises(InputError, match=r"annotation 2: has (no `segm|a box and no mask)"):
        train(config, tmp_path / "run", devices=1)
    assert not (tmp_path / "run").exists()


def test_a_validation_set_without_any_mask_is_scored_by_box_ap(tmp_path, tiny_images):
    val = write_images(tmp_path / "val")
    content = json.loads(Path(val.annotations).read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    Path(val.annotations).write_text(json.dumps(content))
    config = tiny_config(train=val, val=val, track=False)
    config.train.max_steps = 1
    train(config, tmp_path / "run", devices=1)
    assert metric(tmp_path / "run", "loss/s1.dice") == {1: 0.0}
    assert metric(tmp_path / "run", "val/bbox_AP") and not metric(tmp_path / "run", "val/segm_AP")
