"""The configs that ship: their names, and the published recipes they follow."""

from __future__ import annotations

import pytest

from queryinst_vis.config import config_names, load_config
from tests.config_support import CONFIGS, complaint

# Configs by name


def test_a_shipped_config_can_be_loaded_by_name(monkeypatch, tmp_path):
    by_path = load_config(CONFIGS / "coco" / "queryinst_r50_100q_1x.yaml")
    monkeypatch.chdir(tmp_path)
    for name in ("coco/queryinst_r50_100q_1x", "configs/coco/queryinst_r50_100q_1x.yaml"):
        assert load_config(name) == by_path


def test_config_names_are_the_file_names_without_base_files():
    files = {path.relative_to(CONFIGS).with_suffix("") for path in CONFIGS.rglob("*.yaml")}
    assert set(config_names()) == {str(file) for file in files if file.parts[0] != "_base_"}


def test_a_file_takes_precedence_over_a_config_name(write_config, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_config("seed: 7", "people")
    assert load_config("people").seed == 7


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("peple", "people"),
        ("queryinst_r50_100q_1x", "coco/queryinst_r50_100q_1x"),
        ("coco/queryinst_r50_100q", "coco/queryinst_r50_100q_1x"),
        ("youtube_vis/queryinst_vis_r50_2018.yaml", "youtube_vis/queryinst_vis_r50_2019"),
    ],
)
def test_an_unknown_config_name_is_refused_with_the_nearest(name, near):
    message = complaint(name)
    assert f"config {name}: no such file or config name; the nearest names are " in message
    assert near in message.partition("names are ")[2].split(", ")


def test_a_config_name_without_a_near_match_lists_all_names():
    assert complaint("0000").endswith(f"the names are {', '.join(config_names())}")


# Settings


def shipped(pattern: str) -> list:
    paths = sorted(CONFIGS.glob(pattern))
    return [pytest.param(path, id=str(path.relative_to(CONFIGS))) for path in paths]


@pytest.mark.parametrize("path", shipped("**/*.yaml"))
def test_every_shipped_config_loads(path, monkeypatch):
    monkeypatch.setenv("QUERYINST_VIS_DATA", "/data")
    config = load_config(path)
    assert len(set(config.model.classes)) == len(config.model.classes)
    assert all(step < config.train.max_steps for step in config.train.lr_steps)
    if path.parent.name != "_base_":
        assert config.model.classes


EPOCH = 7330  # steps of 16 images over COCO's 117,266 annotated ones

SCHEDULES = {"1x": (12, [8, 11]), "3x": (36, [27, 33]), "50e": (50, [40])}

OPTIMIZERS = {"paper": (2.5e-5, 1.0, 1.0), "augmented": (1e-4, 0.1, 0.1)}  # lr, backbone, clip


@pytest.mark.parametrize("path", shipped("coco/*.yaml"))
def test_coco_configs_follow_the_published_recipe(path):
    config = load_config(path)
    (schedule,) = [name for name in SCHEDULES if f"_{name}" in path.stem]
    epochs, milestones = SCHEDULES[schedule]
    assert config.train.max_steps == epochs * EPOCH
    assert config.train.lr_steps == [milestone * EPOCH for milestone in milestones]
    optimizer = OPTIMIZERS["augmented" if path.stem.endswith("_augmented") else "paper"]
    recipe = config.train
    assert (recipe.lr, recipe.backbone_lr_multiplier, recipe.clip_norm) == optimizer
    assert recipe.weight_decay == 1e-4
    assert len(config.model.classes) == 80
    assert config.model.num_queries == (300 if "300q" in path.stem else 100)
    assert config.inference.max_per_image == config.model.num_queries


def test_the_youtube_vis_config_follows_the_paper():
    config = load_config(CONFIGS / "youtube_vis" / "queryinst_vis_r50_2019.yaml")
    assert len(config.model.classes) == 40
    assert (config.model.num_queries, config.inference.max_per_image) == (10, 10)
    assert config.model.track.enabled
    assert config.inference.one_label_per_query
    assert (config.input.train_short, config.input.train_long) == ([360], [640])
    assert [round(12 * step / config.train.max_steps) for step in config.train.lr_steps] == [8, 11]
