"""The configuration: what a YAML file may say, and what it is told when it says it wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from queryinst_vis.config import (
    Config,
    apply_overrides,
    check_numbers,
    config_from_dict,
    config_names,
    config_to_dict,
    differences,
    find_config,
    load_config,
    resolved,
)
from queryinst_vis.errors import InputError

CONFIGS = find_config("people").parent


@pytest.fixture
def write(tmp_path):
    """Write a config file below the test's folder and return its path."""

    def write_file(text: str, name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


def complaint(path: Path | str, overrides: list[str] | None = None) -> str:
    """The one line that ``load_config`` raises about a file."""
    with pytest.raises(InputError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


# What a file may say


def test_an_empty_file_is_the_default_model(write):
    assert load_config(write("")) == Config()


def test_a_file_says_only_what_differs(write):
    config = load_config(write("model: {num_queries: 10, track: {enabled: true}}"))
    expected = Config()
    expected.model.num_queries = 10
    expected.model.track.enabled = True
    assert config == expected


def test_numbers_in_exponent_notation_are_numbers(write):
    assert load_config(write("train: {lr: 1e-4}")).train.lr == 1e-4


def test_an_optional_value_can_be_unset(write):
    path = write("tracking: {expire_after: 20}\nmodel: {backbone: {weights: file.safetensors}}")
    config = load_config(path, ["tracking.expire_after=null", "model.backbone.weights="])
    assert config.tracking.expire_after is None
    assert config.model.backbone.weights is None


def test_a_list_of_datasets(write):
    config = load_config(write("data: {train_extra: [{images: a, weight: 2}, {images: b}]}"))
    assert [(extra.images, extra.weight) for extra in config.data.train_extra] == [
        ("a", 2.0),
        ("b", 1.0),
    ]


def test_a_group_may_refer_to_another(write):
    path = write("data: {val: {annotations: val.json, images: val}, test: '${data.val}'}")
    assert load_config(path).data.test.annotations == "val.json"
    config = load_config(path, ["data.test.annotations=test.json"])
    assert (config.data.test.annotations, config.data.test.images) == ("test.json", "val")
    assert config.data.val.annotations == "val.json"


# Configs by name


def test_a_config_that_ships_has_a_name(monkeypatch, tmp_path):
    by_path = load_config(CONFIGS / "coco" / "queryinst_r50_100q_1x.yaml")
    monkeypatch.chdir(tmp_path)
    for name in ("coco/queryinst_r50_100q_1x", "configs/coco/queryinst_r50_100q_1x.yaml"):
        assert load_config(name) == by_path


def test_the_names_are_those_of_the_files_but_for_parents():
    files = {path.relative_to(CONFIGS).with_suffix("") for path in CONFIGS.rglob("*.yaml")}
    assert set(config_names()) == {str(file) for file in files if file.parts[0] != "_base_"}


def test_a_file_comes_before_a_name(write, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write("seed: 7", "people")
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
def test_an_unknown_name_is_told_the_nearest(name, near):
    message = complaint(name)
    assert f"config {name}: no such file or config name; the nearest names are " in message
    assert near in message.partition("names are ")[2].split(", ")


def test_a_name_like_no_other_is_told_them_all():
    assert complaint("0000").endswith(f"the names are {', '.join(config_names())}")


def test_a_parent_may_be_one_that_ships(write):
    config = load_config(write("_base_: youtube_vis/queryinst_vis_r50_2019\nseed: 5"))
    expected = load_config("youtube_vis/queryinst_vis_r50_2019", ["seed=5"])
    assert config == expected


# Inheritance


def test_one_parent(write):
    write("seed: 7\ntrain: {lr: 1.0, max_steps: 5}", "parent.yaml")
    config = load_config(write("_base_: parent.yaml\ntrain: {lr: 2.0}"))
    assert (config.seed, config.train.lr, config.train.max_steps) == (7, 2.0, 5)


def test_later_parents_win_over_earlier_ones_and_the_file_over_both(write):
    write("seed: 1\ntrain: {lr: 1.0, max_steps: 1}", "first.yaml")
    write("train: {lr: 2.0, max_steps: 2}", "second.yaml")
    config = load_config(write("_base_: [first.yaml, second.yaml]\ntrain: {max_steps: 3}"))
    assert (config.seed, config.train.lr, config.train.max_steps) == (1, 2.0, 3)


def test_a_chain_of_parents_relative_to_each_file(write):
    write("seed: 3\ntrain: {max_steps: 1}", "bases/old/grandparent.yaml")
    write("_base_: old/grandparent.yaml\ntrain: {max_steps: 2}", "bases/parent.yaml")
    config = load_config(write("_base_: bases/parent.yaml"))
    assert (config.seed, config.train.max_steps) == (3, 2)


def test_two_parents_may_share_a_grandparent(write):
    write("seed: 3", "grandparent.yaml")
    write("_base_: grandparent.yaml\ntrain: {lr: 1.0}", "left.yaml")
    write("_base_: grandparent.yaml\ntrain: {max_steps: 2}", "right.yaml")
    config = load_config(write("_base_: [left.yaml, right.yaml]"))
    assert (config.seed, config.train.lr, config.train.max_steps) == (3, 1.0, 2)


def test_lists_are_replaced_not_joined(write):
    write("model: {classes: [cat, dog]}", "parent.yaml")
    assert load_config(write("_base_: parent.yaml\nmodel: {classes: [car]}")).model.classes == [
        "car"
    ]


def test_a_circle_of_parents_is_named(write):
    write("_base_: config.yaml", "parent.yaml")
    assert "config.yaml: _base_ leads back to the file itself" in complaint(
        write("_base_: parent.yaml")
    )


def test_a_missing_parent_is_named(write):
    assert "nowhere.yaml: no such file" in complaint(write("_base_: nowhere.yaml"))


def test_a_fault_in_a_parent_names_the_parent(write):
    write("sed: 3", "parent.yaml")
    assert "parent.yaml: unknown key 'sed'" in complaint(write("_base_: parent.yaml"))


def test_parents_that_multiply_are_refused_before_they_are_all_read(write):
    for level in range(30):  # 2 ** 30 files
        write(f"_base_: [level{level + 1}.yaml, level{level + 1}.yaml]", f"level{level}.yaml")
    write("seed: 1", "level30.yaml")
    assert "more than 100 files" in complaint(write("_base_: level0.yaml"))


def test_a_large_file_is_no_config(write):
    large = write("#" * 300_000)
    assert "config.yaml: a config and its _base_ files are limited to 256 KiB" in complaint(large)


def test_the_sizes_of_parents_add_up(write):
    write("#" * 100_000, "parent.yaml")
    bases = ", ".join(["parent.yaml"] * 3)
    assert "limited to 256 KiB" in complaint(write(f"_base_: [{bases}]"))


@pytest.mark.parametrize("value", ["[[1]]", "[{name: x}]"])
def test_lists_hold_single_values(write, value):
    message = complaint(write(f"input: {{train_short: {value}}}"))
    assert "'input.train_short[0]' must be a single value" in message


@pytest.mark.parametrize(
    ("key", "value", "bound"),
    [
        ("model.num_queries", 10**9, "at most 65536"),
        ("data.num_workers", 10**9, "at most 1024"),
        ("train.batch_size", 10**9, "at most 65536"),
        ("input.test_long", 0, "at least 1"),
        ("train.lr", 0.0, "above 0"),
        ("train.average_decay", 1.0, "below 1"),
        ("losses.cls", -1.0, "at least 0"),
        ("seed", -1, "at least 0"),
        ("seed", 10**19, "a 64-bit number"),
        ("losses.dice", ".nan", "a finite number"),
        ("tracking.max_tracks", 0, "at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused_by_the_schema(key, value, bound):
    with pytest.raises(InputError, match=rf"^overrides: {key}: must be {bound}, is "):
        apply_overrides(Config(), [f"{key}={value}"])


def test_a_number_that_no_float_can_hold(write):
    message = complaint(write(f"input: {{flip: {10**400}}}"))
    assert "config.yaml: wrong value for " in message and "too large" in message


def test_every_default_is_in_its_range():
    check_numbers(Config())


def test_configs_made_in_python_are_checked_alike():
    config = Config()
    config.input.train_short = [360, 0]
    with pytest.raises(InputError, match=r"^input\.train_short\[1\]: must be at least 1, is 0$"):
        check_numbers(config)


@pytest.mark.parametrize("base", ["3", "[3]", "null", "{a: b}"])
def test_base_must_be_paths(write, base):
    assert "_base_ must be a path or a list of paths" in complaint(write(f"_base_: {base}"))


# Overrides


def test_overrides_come_last_and_the_later_wins(write):
    path = write("train: {max_steps: 1}")
    config = load_config(path, ["train.max_steps=2", "train.max_steps=3", "model.classes=[a,b]"])
    assert config.train.max_steps == 3
    assert config.model.classes == ["a", "b"]


def test_a_value_may_hold_an_equals_sign(write):
    assert load_config(write(""), ["data.test.images=a=b"]).data.test.images == "a=b"


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
def test_a_wrong_override_is_quoted(write, override, message):
    assert message in complaint(write(""), [override])


def test_overrides_apply_to_a_copy_of_a_config():
    config = Config()
    changed = apply_overrides(config, ["tracking.max_tracks=5"])
    assert (config.tracking.max_tracks, changed.tracking.max_tracks) == (None, 5)


# Faults of a file


def test_an_unknown_key_names_its_nearest_neighbour(write):
    message = complaint(write("losses: {loss_dice: 3}"))
    assert "config.yaml: unknown key 'losses.loss_dice'; did you mean 'losses.dice'?" in message


def test_an_unknown_key_without_a_neighbour_lists_the_valid_ones(write):
    message = complaint(write("losses: {zzz: 3}"))
    assert "unknown key 'losses.zzz'; valid keys: cls, l1, giou, dice, track" in message


def test_an_unknown_key_at_the_top_level(write):
    assert "unknown key 'trian'; did you mean 'train'?" in complaint(write("trian: {lr: 1}"))


def test_an_unknown_key_inside_a_list_has_its_place_named(write):
    message = complaint(write("data: {train_extra: [{images: a}, {imagess: b}]}"))
    assert "unknown key 'data.train_extra[1].imagess'" in message
    assert "did you mean 'data.train_extra[1].images'?" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {num_queries: many}", "wrong value for 'model.num_queries': Value 'many'"),
        ("model: {num_queries: 1.5}", "wrong value for 'model.num_queries': Value '1.5'"),
        ("model: {num_queries: null}", "wrong value for 'model.num_queries'"),
        ("model: {backbone: {norm_eval: maybe}}", "wrong value for 'model.backbone.norm_eval'"),
        ("train: {lr_steps: [1, x]}", "wrong value for 'train.lr_steps[1]': Value 'x'"),
        ("train: {lr_steps: 3}", "'train.lr_steps' must be a list, got 3"),
        ("model: 3", "'model' must contain keys and values, got 3"),
        ("model: null", "'model' must contain keys and values, got None"),
        ("data: {train_extra: {images: a}}", "'data.train_extra' must be a list"),
        ("data: {train_extra: [3]}", "'data.train_extra[0]' must contain keys and values, got 3"),
        ("data: {train: {images: [a]}}", "'data.train.images' must be a single value, got ['a']"),
    ],
)
def test_a_wrong_type_names_the_file_and_the_key(write, text, message):
    assert f"config.yaml: {message}" in complaint(write(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{seed: 1", "not readable as YAML"),
        ("seed: 1\nseed: 2", "found duplicate key seed"),
        ("seed: &loop [*loop]", "not readable as YAML"),
        ("seed: '${'", "not readable as YAML"),
        ("- seed", "expected keys and values at the top level"),
    ],
)
def test_a_broken_file_is_named(write, text, message):
    complained = complaint(write(text))
    assert "config.yaml: " in complained
    assert message in complained


def test_a_missing_file_a_folder_and_a_binary_are_no_configs(tmp_path):
    assert "none.yaml: no such file" in complaint(tmp_path / "none.yaml")
    assert "no such file" in complaint(tmp_path)
    binary = tmp_path / "weights.yaml"
    binary.write_bytes(bytes(range(256)))
    assert "weights.yaml: not readable as YAML" in complaint(binary)


# References to the environment and to other keys


def test_an_environment_variable_is_read(write, monkeypatch):
    monkeypatch.setenv("QUERYINST_VIS_TEST_ROOT", "/data")
    path = write("data: {train: {images: '${oc.env:QUERYINST_VIS_TEST_ROOT}/images'}}")
    assert load_config(path).data.train.images == "/data/images"


@pytest.fixture
def unset(monkeypatch):
    """A text that refers to a variable which is not set."""
    monkeypatch.delenv("QUERYINST_VIS_TEST_ROOT", raising=False)
    return "${oc.env:QUERYINST_VIS_TEST_ROOT}/x"


def test_an_unset_environment_variable_matters_only_to_who_uses_the_text(write, unset):
    text = f"data: {{val: {{images: '{unset}'}}, train: {{images: here}}, test: '${{data.val}}'}}"
    config = load_config(write(text), ["train.max_steps=3"])
    assert config.data.train.images == "here"
    for images in (config.data.val.images, config.data.test.images):
        with pytest.raises(InputError, match="'QUERYINST_VIS_TEST_ROOT'") as caught:
            resolved(images, "image folder")
        assert f"image folder {unset}" in str(caught.value)


def test_a_text_that_was_not_used_is_not_written_down(write, unset):
    """Files of weights refer to nothing."""
    config = load_config(write(f"data: {{val: {{images: '{unset}'}}, train_extra: []}}"))
    assert config_to_dict(config)["data"]["val"]["images"] is None
    assert differences(config, config_from_dict(config_to_dict(config), "weights")) == {}


def test_overrides_leave_an_unset_variable_as_it_is(write, unset):
    config = load_config(write(f"data: {{val: {{images: '{unset}'}}}}"))
    assert apply_overrides(config, ["seed=3"]).data.val.images == unset


def test_a_number_cannot_come_from_an_unset_variable(write, unset):
    message = complaint(write("seed: '${oc.env:QUERYINST_VIS_TEST_ROOT}'"))
    assert "cannot resolve 'seed'" in message
    assert "Environment variable 'QUERYINST_VIS_TEST_ROOT' not found" in message


def test_an_unset_variable_may_have_a_default(write, unset):
    path = write("data: {val: {images: '${oc.env:QUERYINST_VIS_TEST_ROOT,data}/x'}}")
    assert load_config(path).data.val.images == "data/x"


def test_an_override_takes_the_place_of_an_unset_variable(write, monkeypatch):
    monkeypatch.delenv("QUERYINST_VIS_TEST_ROOT", raising=False)
    path = write("data: {val: {images: '${oc.env:QUERYINST_VIS_TEST_ROOT}/x'}}")
    assert load_config(path, ["data.val.images=here"]).data.val.images == "here"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: ${nothing}", "cannot resolve 'seed': Interpolation key 'nothing' not found"),
        ("seed: ${seed}", "cannot resolve 'seed': Recursive interpolation"),
        ("data: {val: {images: '${run:ls}'}}", "cannot resolve 'data.val.images': Unsupported"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(write, text, message):
    assert message in complaint(write(text))


# Inside checkpoints


def test_a_config_survives_the_way_through_plain_values(monkeypatch):
    monkeypatch.setenv("QUERYINST_VIS_DATA", "/data")
    config = load_config(CONFIGS / "local" / "mots_vis.yaml")
    assert config_from_dict(config_to_dict(config), "checkpoint") == config


@pytest.mark.parametrize("values", [None, 3, ["seed"], {"unknown": 1}, {"seed": {"a": 1}}])
def test_broken_plain_values_name_their_origin(values):
    with pytest.raises(InputError, match=r"^checkpoint model\.safetensors: "):
        config_from_dict(values, "checkpoint model.safetensors")


# The files that ship


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
