"""Config inheritance through ``_base_``, and overrides."""

from __future__ import annotations

import pytest

from queryinst_vis.config import Config, apply_overrides, load_config
from tests.config_support import complaint

# Configs by name


def test_base_may_name_a_shipped_config(write_config):
    config = load_config(write_config("_base_: youtube_vis/queryinst_vis_r50_2019\nseed: 5"))
    expected = load_config("youtube_vis/queryinst_vis_r50_2019", ["seed=5"])
    assert config == expected


# Inheritance


def test_a_config_inherits_from_its_parent(write_config):
    write_config("seed: 7\ntrain: {lr: 1.0, max_steps: 5}", "parent.yaml")
    config = load_config(write_config("_base_: parent.yaml\ntrain: {lr: 2.0}"))
    assert (config.seed, config.train.lr, config.train.max_steps) == (7, 2.0, 5)


def test_later_parents_override_earlier_ones_and_the_file_overrides_both(write_config):
    write_config("seed: 1\ntrain: {lr: 1.0, max_steps: 1}", "first.yaml")
    write_config("train: {lr: 2.0, max_steps: 2}", "second.yaml")
    config = load_config(write_config("_base_: [first.yaml, second.yaml]\ntrain: {max_steps: 3}"))
    assert (config.seed, config.train.lr, config.train.max_steps) == (1, 2.0, 3)


def test_parent_paths_are_relative_to_the_file_that_names_them(write_config):
    write_config("seed: 3\ntrain: {max_steps: 1}", "bases/old/grandparent.yaml")
    write_config("_base_: old/grandparent.yaml\ntrain: {max_steps: 2}", "bases/parent.yaml")
    config = load_config(write_config("_base_: bases/parent.yaml"))
    assert (config.seed, config.train.max_steps) == (3, 2)


def test_two_parents_may_share_a_grandparent(write_config):
    write_config("seed: 3", "grandparent.yaml")
    write_config("_base_: grandparent.yaml\ntrain: {lr: 1.0}", "left.yaml")
    write_config("_base_: grandparent.yaml\ntrain: {max_steps: 2}", "right.yaml")
    config = load_config(write_config("_base_: [left.yaml, right.yaml]"))
    assert (config.seed, config.train.lr, config.train.max_steps) == (3, 1.0, 2)


def test_lists_are_replaced_not_concatenated(write_config):
    write_config("model: {classes: [cat, dog]}", "parent.yaml")
    assert load_config(
        write_config("_base_: parent.yaml\nmodel: {classes: [car]}")
    ).model.classes == ["car"]


def test_circular_inheritance_is_refused(write_config):
    write_config("_base_: config.yaml", "parent.yaml")
    assert "config.yaml: _base_ leads back to the file itself" in complaint(
        write_config("_base_: parent.yaml")
    )


def test_a_missing_parent_is_refused_with_its_name(write_config):
    assert "nowhere.yaml: no such file" in complaint(write_config("_base_: nowhere.yaml"))


def test_an_error_in_a_parent_names_the_parent(write_config):
    write_config("sed: 3", "parent.yaml")
    assert "parent.yaml: unknown key 'sed'" in complaint(write_config("_base_: parent.yaml"))


def test_exponentially_many_parents_are_refused_early(write_config):
    for level in range(30):  # 2 ** 30 files
        write_config(
            f"_base_: [level{level + 1}.yaml, level{level + 1}.yaml]", f"level{level}.yaml"
        )
    write_config("seed: 1", "level30.yaml")
    assert "more than 100 files" in complaint(write_config("_base_: level0.yaml"))


def test_a_file_over_the_size_limit_is_refused(write_config):
    large = write_config("#" * 300_000)
    assert "config.yaml: a config and its _base_ files are limited to 256 KiB" in complaint(large)


def test_the_size_limit_covers_a_config_with_its_parents(write_config):
    write_config("#" * 100_000, "parent.yaml")
    bases = ", ".join(["parent.yaml"] * 3)
    assert "limited to 256 KiB" in complaint(write_config(f"_base_: [{bases}]"))


@pytest.mark.parametrize("base", ["3", "[3]", "null", "{a: b}"])
def test_base_must_be_paths(write_config, base):
    assert "_base_ must be a path or a list of paths" in complaint(write_config(f"_base_: {base}"))


# Overrides


def test_overrides_apply_last_and_later_ones_win(write_config):
    path = write_config("train: {max_steps: 1}")
    config = load_config(path, ["train.max_steps=2", "train.max_steps=3", "model.classes=[a,b]"])
    assert config.train.max_steps == 3
    assert config.model.classes == ["a", "b"]


def test_an_override_value_may_contain_an_equals_sign(write_config):
    assert load_config(write_config(""), ["data.test.images=a=b"]).data.test.images == "a=b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_steps", "override 'train.max_steps': expected key=value"),
        ("trian.max_steps=3", "override 'trian.max_steps=3': unknown key 'trian'; did you mean"),
        ("train.lr=fast", "override 'train.lr=fast': wrong value for 'train.lr'"),
        ("train.lr_steps=[1,", "override 'train.lr_steps=[1,': not readable as YAML"),
        ("seed.x=3", "override 'seed.x=3': 'seed' must be a single value"),
        ("=3", "override '=3': unknown key ''"),
        ("_base_=other.yaml", "unknown key '_base_'"),
        ("data.train_extra[0].images=x", "'data.train_extra' must be a list"),
    ],
)
def test_a_bad_override_is_quoted_in_the_error(write_config, override, message):
    assert message in complaint(write_config(""), [override])


def test_overrides_apply_to_a_copy_of_a_config():
    config = Config()
    changed = apply_overrides(config, ["tracking.max_tracks=5"])
    assert (config.tracking.max_tracks, changed.tracking.max_tracks) == (None, 5)
