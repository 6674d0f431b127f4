"""The configuration: what a YAML file may contain, and how a bad one is refused."""

from __future__ import annotations

import pytest

from queryinst_vis.config import (
    Config,
    apply_overrides,
    check_numbers,
    config_from_dict,
    config_to_dict,
    differences,
    load_config,
    resolved,
)
from queryinst_vis.errors import InputError
from tests.config_support import CONFIGS, complaint

# Config files


def test_an_empty_file_is_the_default_model(write_config):
    assert load_config(write_config("")) == Config()


def test_a_file_needs_only_the_values_that_differ_from_the_defaults(write_config):
    config = load_config(write_config("model: {num_queries: 10, track: {enabled: true}}"))
    expected = Config()
    expected.model.num_queries = 10
    expected.model.track.enabled = True
    assert config == expected


def test_exponent_notation_is_read_as_a_number(write_config):
    assert load_config(write_config("train: {lr: 1e-4}")).train.lr == 1e-4


def test_an_optional_value_can_be_set_to_null(write_config):
    path = write_config(
        "tracking: {expire_after: 20}\nmodel: {backbone: {weights: file.safetensors}}"
    )
    config = load_config(path, ["tracking.expire_after=null", "model.backbone.weights="])
    assert config.tracking.expire_after is None
    assert config.model.backbone.weights is None


def test_a_list_of_data_sets_is_read(write_config):
    config = load_config(write_config("data: {train_extra: [{images: a, weight: 2}, {images: b}]}"))
    assert [(extra.images, extra.weight) for extra in config.data.train_extra] == [
        ("a", 2.0),
        ("b", 1.0),
    ]


def test_a_group_may_reference_another(write_config):
    path = write_config("data: {val: {annotations: val.json, images: val}, test: '${data.val}'}")
    assert load_config(path).data.test.annotations == "val.json"
    config = load_config(path, ["data.test.annotations=test.json"])
    assert (config.data.test.annotations, config.data.test.images) == ("test.json", "val")
    assert config.data.val.annotations == "val.json"


# Inheritance


@pytest.mark.parametrize("value", ["[[1]]", "[{name: x}]"])
def test_lists_hold_single_values(write_config, value):
    message = complaint(write_config(f"input: {{train_short: {value}}}"))
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


def test_a_number_beyond_the_range_of_a_float_is_refused(write_config):
    message = complaint(write_config(f"input: {{flip: {10**400}}}"))
    assert "config.yaml: wrong value for " in message and "too large" in message


def test_every_default_is_in_its_range():
    check_numbers(Config())


def test_configs_built_in_python_are_checked_too():
    config = Config()
    config.input.train_short = [360, 0]
    with pytest.raises(InputError, match=r"^input\.train_short\[1\]: must be at least 1, is 0$"):
        check_numbers(config)


# Errors in a file


def test_an_unknown_key_is_refused_with_the_nearest_valid_one(write_config):
    message = complaint(write_config("losses: {loss_dice: 3}"))
    assert "config.yaml: unknown key 'losses.loss_dice'; did you mean 'losses.dice'?" in message


def test_an_unknown_key_without_a_near_match_lists_the_valid_ones(write_config):
    message = complaint(write_config("losses: {zzz: 3}"))
    assert "unknown key 'losses.zzz'; valid keys: cls, l1, giou, dice, track" in message


def test_an_unknown_top_level_key_is_refused_with_a_suggestion(write_config):
    assert "unknown key 'trian'; did you mean 'train'?" in complaint(write_config("trian: {lr: 1}"))


def test_an_unknown_key_inside_a_list_is_refused_with_its_index(write_config):
    message = complaint(write_config("data: {train_extra: [{images: a}, {imagess: b}]}"))
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
def test_a_wrong_type_is_refused_with_file_and_key(write_config, text, message):
    assert f"config.yaml: {message}" in complaint(write_config(text))


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
def test_a_malformed_file_is_refused_with_its_name(write_config, text, message):
    complained = complaint(write_config(text))
    assert "config.yaml: " in complained
    assert message in complained


def test_a_missing_file_a_folder_and_a_binary_are_refused(tmp_path):
    assert "none.yaml: no such file" in complaint(tmp_path / "none.yaml")
    assert "no such file" in complaint(tmp_path)
    binary = tmp_path / "weights.yaml"
    binary.write_bytes(bytes(range(256)))
    assert "weights.yaml: not readable as YAML" in complaint(binary)


# References to the environment and to other keys


def test_an_environment_variable_is_read(write_config, monkeypatch):
    monkeypatch.setenv("QUERYINST_VIS_TEST_ROOT", "/data")
    path = write_config("data: {train: {images: '${oc.env:QUERYINST_VIS_TEST_ROOT}/images'}}")
    assert load_config(path).data.train.images == "/data/images"


@pytest.fixture
def unset(monkeypatch):
    """A value that references an unset variable."""
    monkeypatch.delenv("QUERYINST_VIS_TEST_ROOT", raising=False)
    return "${oc.env:QUERYINST_VIS_TEST_ROOT}/x"


def test_an_unset_environment_variable_is_an_error_only_on_use(write_config, unset):
    text = f"data: {{val: {{images: '{unset}'}}, train: {{images: here}}, test: '${{data.val}}'}}"
    config = load_config(write_config(text), ["train.max_steps=3"])
    assert config.data.train.images == "here"
    for images in (config.data.val.images, config.data.test.images):
        with pytest.raises(InputError, match="'QUERYINST_VIS_TEST_ROOT'") as caught:
            resolved(images, "image folder")
        assert f"image folder {unset}" in str(caught.value)


def test_unresolved_values_are_saved_as_null(write_config, unset):
    """A saved config holds no references."""
    config = load_config(write_config(f"data: {{val: {{images: '{unset}'}}, train_extra: []}}"))
    assert config_to_dict(config)["data"]["val"]["images"] is None
    assert differences(config, config_from_dict(config_to_dict(config), "weights")) == {}


def test_overrides_keep_references_to_unset_variables(write_config, unset):
    config = load_config(write_config(f"data: {{val: {{images: '{unset}'}}}}"))
    assert apply_overrides(config, ["seed=3"]).data.val.images == unset


def test_a_number_from_an_unset_variable_is_refused(write_config, unset):
    message = complaint(write_config("seed: '${oc.env:QUERYINST_VIS_TEST_ROOT}'"))
    assert "cannot resolve 'seed'" in message
    assert "Environment variable 'QUERYINST_VIS_TEST_ROOT' not found" in message


def test_an_unset_variable_may_have_a_default(write_config, unset):
    path = write_config("data: {val: {images: '${oc.env:QUERYINST_VIS_TEST_ROOT,data}/x'}}")
    assert load_config(path).data.val.images == "data/x"


def test_an_override_replaces_a_reference_to_an_unset_variable(write_config, monkeypatch):
    monkeypatch.delenv("QUERYINST_VIS_TEST_ROOT", raising=False)
    path = write_config("data: {val: {images: '${oc.env:QUERYINST_VIS_TEST_ROOT}/x'}}")
    assert load_config(path, ["data.val.images=here"]).data.val.images == "here"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: ${nothing}", "cannot resolve 'seed': Interpolation key 'nothing' not found"),
        ("seed: ${seed}", "cannot resolve 'seed': Recursive interpolation"),
        ("data: {val: {images: '${run:ls}'}}", "cannot resolve 'data.val.images': Unsupported"),
    ],
)
def test_an_unresolvable_reference_is_refused_with_its_key(write_config, text, message):
    assert message in complaint(write_config(text))


# Plain values in checkpoints


def test_a_config_round_trips_through_plain_values(monkeypatch):
    monkeypatch.setenv("QUERYINST_VIS_DATA", "/data")
    config = load_config(CONFIGS / "local" / "mots_vis.yaml")
    assert config_from_dict(config_to_dict(config), "checkpoint") == config


@pytest.mark.parametrize("values", [None, 3, ["seed"], {"unknown": 1}, {"seed": {"a": 1}}])
def test_bad_plain_values_are_refused_with_their_origin(values):
    with pytest.raises(InputError, match=r"^checkpoint model\.safetensors: "):
        config_from_dict(values, "checkpoint model.safetensors")
