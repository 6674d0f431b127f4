"""Weights transferred to another model: classes, queries, and image to video."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from queryinst_vis import cli
from queryinst_vis.checkpoints.adapt import has_backbone_of
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.query_rules import QUERY_RULES, Source, pick_queries
from queryinst_vis.checkpoints.transfer import initialise_from, transfer_checkpoint
from queryinst_vis.checkpoints.weights import load_weights, save_weights
from queryinst_vis.config import DatasetConfig
from queryinst_vis.errors import InputError
from queryinst_vis.models.build import build_model
from queryinst_vis.training.recipe import check_recipe
from tests.tiny import HEIGHT, WIDTH, draw_frame, tiny_config, write_images, write_videos

# Class weights


SOURCE_CLASSES = ["person", "car", "box", "mouse", "keyboard"]

TARGET_CLASSES = ["owl", "sedan", "mouse", "person"]


@pytest.fixture(scope="module")
def source_config():
    config = tiny_config(track=False)
    config.model.classes, config.model.num_queries = SOURCE_CLASSES, 12
    return config


@pytest.fixture(scope="module")
def source(source_config, tmp_path_factory):
    """An image checkpoint of 12 queries."""
    torch.manual_seed(11)
    path = tmp_path_factory.mktemp("source") / "image.safetensors"
    save_weights(path, build_model(source_config), source_config)
    return path


@pytest.fixture
def config():
    """A video model of 5 queries."""
    config = tiny_config()
    config.model.classes = TARGET_CLASSES
    return config


def initial(config):
    torch.manual_seed(config.seed)
    return build_model(config).state_dict()


CLASS_TENSORS = [
    f"{module}.{kind}"
    for module in (
        "stages.0.class_predictor",
        "stages.1.class_predictor",
        "mask_heads.0.predictor",
        "mask_heads.1.predictor",
    )
    for kind in ("weight", "bias")
]


def test_class_weights_follow_class_names_and_new_classes_start_from_the_mean(
    source, config, tmp_path
):
    transfer_checkpoint(source, config, tmp_path / "start.safetensors")
    saved_config, new = load_weights(tmp_path / "start.safetensors")
    old, fresh = load_weights(source)[1], initial(config)
    assert saved_config == config
    for name in CLASS_TENSORS:
        owl, sedan, mouse, person = new[name]
        assert torch.equal(person, old[name][0]) and torch.equal(sedan, old[name][1])
        torch.testing.assert_close(owl, old[name].mean(dim=0))
        assert torch.equal(owl, mouse)
    rest = new.keys() - set(CLASS_TENSORS) - {"queries", "proposals"}
    for name in rest:
        expected = fresh if name.startswith("track_head.") else old
        assert torch.equal(new[name], expected[name]), name
    assert any(name.startswith("track_head.") for name in rest)


def test_the_transfer_is_reported_class_by_class(source, config, tmp_path):
    lines = transfer_checkpoint(source, config, tmp_path / "start.safetensors")
    text = "\n".join(lines)
    assert "classes: 2 of 4 are in the checkpoint" in text
    mean = "the mean of its 5 classes (new)"
    for line in ("person <- person", "sedan <- car", f"owl <- {mean}", f"mouse <- {mean}"):
        assert f"    {line}\n" in text
    assert "queries: 5 of the checkpoint's 12: 0, 1, 2, 3, 4" in text
    assert "not in the checkpoint, keep their initialisation: 4 tensors of track_head." in text
    assert lines[-1] == f"wrote {tmp_path / 'start.safetensors'}"


def test_new_classes_start_from_the_class_named_by_the_user(source, config, tmp_path):
    target = tmp_path / "start.safetensors"
    lines = transfer_checkpoint(source, config, target, new_classes_from="keyboard")
    old, new = load_weights(source)[1], load_weights(target)[1]
    for name in CLASS_TENSORS:
        owl, sedan, mouse, person = new[name]
        assert torch.equal(owl, old[name][4]) and torch.equal(mouse, old[name][4])
        assert torch.equal(person, old[name][0]) and torch.equal(sedan, old[name][1])
    assert "    owl <- keyboard (new)" in lines and "    sedan <- car" in lines


def test_the_class_to_start_from_may_be_in_the_config_and_the_argument_wins(
    source, config, tmp_path
):
    config.train.init_new_classes_from = "box"
    target = tmp_path / "start.safetensors"
    assert "    owl <- box (new)" in transfer_checkpoint(source, config, target)
    lines = transfer_checkpoint(source, config, target, new_classes_from="person")
    assert "    owl <- person (new)" in lines


def test_models_without_a_class_in_common_start_from_the_mean(source, config, tmp_path):
    config.model.classes = ["owl", "fox"]
    transfer_checkpoint(source, config, tmp_path / "start.safetensors")
    old, new = load_weights(source)[1], load_weights(tmp_path / "start.safetensors")[1]
    for name in CLASS_TENSORS:
        torch.testing.assert_close(new[name], old[name].mean(dim=0).expand_as(new[name]))


def test_a_class_missing_in_the_checkpoint_is_refused_with_those_available(
    source, config, tmp_path
):
    message = "has no class 'cat' .* its classes are person, car, box, mouse, keyboard"
    with pytest.raises(InputError, match=message):
        transfer_checkpoint(source, config, tmp_path / "a.safetensors", new_classes_from="cat")
    config.train.init_new_classes_from = "cat"
    with pytest.raises(InputError, match=rf"train.init_weights .*{message}"):
        initialise_from(build_model(config), config, source)
    assert list(tmp_path.iterdir()) == []


def test_with_equal_classes_and_queries_all_weights_are_copied(source, source_config, tmp_path):
    lines = transfer_checkpoint(source, source_config, tmp_path / "same.safetensors", "most_used")
    old, new = load_weights(source)[1], load_weights(tmp_path / "same.safetensors")[1]
    assert old.keys() == new.keys()
    assert all(torch.equal(new[name], old[name]) for name in old)
    assert "  classes: the same 5" in lines and "  queries: the same 12" in lines


def test_weights_in_half_precision_keep_their_class_rows(source, config, tmp_path):
    model, source_config = load_model(source, "cpu")
    stripped = tmp_path / "stripped.safetensors"
    save_weights(stripped, model, source_config, half=True, inference_only=True)
    transfer_checkpoint(stripped, config, tmp_path / "start.safetensors")
    new = load_weights(tmp_path / "start.safetensors")[1]
    person = load_weights(source)[1]["mask_heads.1.predictor.weight"][0]
    for head in (0, 1):  # the first is missing in the file: a copy of the second
        assert torch.equal(new[f"mask_heads.{head}.predictor.weight"][3], person.half().float())


def test_separate_mask_queries_are_selected_with_the_box_queries(tmp_path, source_config, config):
    for each in (source_config, config):
        each.model.mask.share_query = False
    torch.manual_seed(3)
    save_weights(tmp_path / "source.safetensors", build_model(source_config), source_config)
    transfer_checkpoint(tmp_path / "source.safetensors", config, tmp_path / "start.safetensors")
    old = load_weights(tmp_path / "source.safetensors")[1]["mask_queries.queries"]
    new = load_weights(tmp_path / "start.safetensors")[1]["mask_queries.queries"]
    source_config.model.mask.share_query = True
    assert len(old) == 12 and torch.equal(new, old[:5])


# Query rules


@pytest.fixture
def queries_of(source, config, tmp_path):
    """Transfer by a rule; returns the transferred query indices of the checkpoint."""

    def transfer(rule, calibration=None):
        target = tmp_path / f"{rule}.safetensors"
        transfer_checkpoint(source, config, target, rule, calibration)
        old, new = load_weights(source)[1], load_weights(target)[1]
        same = (new["queries"][:, None] == old["queries"]).all(dim=2)
        boxes = (new["proposals"][:, None] == old["proposals"]).all(dim=2)
        assert (boxes | ~same).all(), "a query keeps its own proposal box"
        return [row.nonzero().item() for row in same if row.any()]

    return transfer


def test_rule_first_takes_the_first_queries(queries_of):
    assert queries_of("first") == [0, 1, 2, 3, 4]


def test_rule_reinitialise_takes_no_queries(queries_of, source, config, tmp_path):
    assert queries_of("reinitialise") == []
    new = load_weights(tmp_path / "reinitialise.safetensors")[1]
    assert torch.equal(new["queries"], initial(config)["queries"])
    assert torch.equal(new["proposals"], initial(config)["proposals"])


def test_rule_kmeans_takes_one_query_per_cluster(source_config):
    torch.manual_seed(0)
    group = torch.arange(12) % 3
    centres = 20 * torch.eye(3, 32)
    queries = centres[group] + torch.linspace(0.1, 1, 12)[:, None]
    picked = pick_queries("kmeans", Source(source_config, {"queries": queries}, []), 3)
    assert sorted(group[picked].tolist()) == [0, 1, 2]
    for query in picked:  # near the centre of its cluster
        assert query // 3 in (1, 2)


def test_fewer_clusters_than_requested_give_fewer_queries(source_config):
    weights = {"queries": torch.ones(12, 32)}
    assert len(pick_queries("kmeans", Source(source_config, weights, []), 5)) == 1


@pytest.mark.parametrize("rule", ["first", "kmeans"])
def test_a_model_with_more_queries_takes_all_available(source, config, tmp_path, rule):
    config.model.num_queries = 14
    lines = transfer_checkpoint(source, config, tmp_path / "start.safetensors", rule)
    new, fresh = load_weights(tmp_path / "start.safetensors")[1], initial(config)
    assert torch.equal(new["queries"][:12], load_weights(source)[1]["queries"])
    assert torch.equal(new["queries"][12:], fresh["queries"][12:])
    assert any(line.endswith("the other 2 keep their initialisation") for line in lines)


@pytest.fixture(scope="module", params=[write_images, write_videos], ids=["images", "videos"])
def calibration(request, tmp_path_factory):
    return request.param(tmp_path_factory.mktemp("calibration") / "set")


def test_rule_most_used_takes_the_most_confident_queries(source_config, calibration, monkeypatch):
    """Queries 2, 7 and 9 are confident; so is 4, but of a class that the target lacks."""
    from queryinst_vis.checkpoints import query_rules

    source_config = replace(source_config, model=replace(source_config.model))
    source_config.model.classes = ["box", "crate"]
    scores = torch.full((12, 2), 0.05)
    scores[[2, 7, 9], 0], scores[4, 1] = 0.9, 0.95
    scores[0, 0] = 0.2
    monkeypatch.setattr(query_rules, "class_scores", lambda model, config, frame: scores)
    weights = build_model(source_config).state_dict()
    source = Source(source_config, weights, ["box", "ball"], calibration)
    assert pick_queries("most_used", source, 3) == [2, 7, 9]
    assert pick_queries("most_used", source, 4) == [0, 2, 7, 9], "then the next by its scores"


@torch.no_grad()
def test_rule_most_used_runs_the_network_on_calibration_frames(queries_of, source, calibration):
    """Untrained queries are never confident, so their mean scores decide."""
    model, config = load_model(source, "cpu")
    frames = [normalised(draw_frame(index), config) for index in range(4)]
    logits = [model(frame, [(HEIGHT, WIDTH)]).stages[-1].class_logits[0] for frame in frames]
    scores = torch.stack(logits).sigmoid()[:, :, :2]  # person and car: the shared classes
    best = scores.amax(dim=2).mean(dim=0).topk(5).indices
    assert queries_of("most_used", calibration) == sorted(best.tolist())


def normalised(frame, config):
    mean, std = (torch.tensor(v) for v in (config.model.backbone.mean, config.model.backbone.std))
    return ((torch.from_numpy(frame) - mean) / std).permute(2, 0, 1)[None]


def test_query_rules_are_refused_with_the_valid_ones(source, config, tmp_path):
    target = tmp_path / "start.safetensors"
    with pytest.raises(InputError) as error:
        transfer_checkpoint(source, config, target, "best")
    assert all(rule in str(error.value) for rule in QUERY_RULES)
    with pytest.raises(InputError, match=r"'most_used' .*--calibrate"):
        transfer_checkpoint(source, config, target, "most_used")
    with pytest.raises(InputError, match=r"'kmeans'.*calibration"):
        transfer_checkpoint(source, config, target, "kmeans", DatasetConfig("a", "b"))
    with pytest.raises(InputError, match=r"\*\.safetensors"):
        transfer_checkpoint(source, config, tmp_path / "start.pth")
    assert list(tmp_path.iterdir()) == []


# train.init_weights


def test_init_weights_follow_the_class_names(source, config):
    torch.manual_seed(config.seed)
    model = build_model(config)
    text = "\n".join(initialise_from(model, config, source))
    name = "stages.1.class_predictor.weight"
    old, new, fresh = load_weights(source)[1], model.state_dict(), initial(config)
    assert torch.equal(new[name][3], old[name][0])
    torch.testing.assert_close(new[name][0], old[name].mean(dim=0))
    assert torch.equal(new["queries"], fresh["queries"])
    assert "queries: 12x32 in the checkpoint, 5x32 in the model: keeps its initialisation" in text
    assert "'queryinst-vis transfer-weights'" in text


def test_training_initialises_new_classes_from_the_configured_class(source, config):
    config.train.init_new_classes_from = "keyboard"
    model = build_model(config)
    assert "    mouse <- keyboard (new)" in initialise_from(model, config, source)
    old, new = load_weights(source)[1], model.state_dict()
    for name in CLASS_TENSORS:
        assert torch.equal(new[name][2], old[name][4])


def test_init_new_classes_from_without_init_weights_is_refused(config):
    config.train.init_new_classes_from = "person"
    with pytest.raises(InputError, match="init_new_classes_from=person: "):
        check_recipe(config.train)


def test_reordered_classes_are_matched_by_name(source, source_config):
    reordered = replace(source_config.model, classes=SOURCE_CLASSES[::-1])
    config = replace(source_config, model=reordered)
    model = build_model(config)
    initialise_from(model, config, source)
    for name in CLASS_TENSORS:
        assert torch.equal(model.state_dict()[name].flip(0), load_weights(source)[1][name])


def test_dropped_tensors_are_reported(source, config):
    config.model.num_stages = 1
    text = "\n".join(initialise_from(build_model(config), config, source))
    assert "not in the model, left out" in text and "stages.1" in text


def test_a_checkpoint_without_a_common_layer_is_refused(tmp_path, source, config):
    with safe_open(source, framework="pt") as file:
        save_file({"other": torch.zeros(2)}, tmp_path / "other.safetensors", file.metadata())
    with pytest.raises(InputError, match=r"init_weights .*other.*: no layer"):
        initialise_from(build_model(config), config, tmp_path / "other.safetensors")


def test_weights_of_another_architecture_are_refused(tmp_path, source, config):
    """Class rows would fit any network, but alone they are no initialisation."""
    config.model.channels, config.model.backbone.name = 16, "resnet18"
    expected = "is a lcnet_035 with 32 channels, the model a resnet18 with 16 channels; choose"
    with pytest.raises(InputError, match=expected):
        transfer_checkpoint(source, config, tmp_path / "start.safetensors")
    assert list(tmp_path.iterdir()) == []


# The command


@pytest.fixture
def tiny_yaml(tmp_path, config):
    from omegaconf import OmegaConf

    OmegaConf.save(OmegaConf.structured(config), tmp_path / "config.yaml")
    return tmp_path / "config.yaml"


def test_transfer_weights_writes_initial_weights(source, config, tiny_yaml, tmp_path, capsys):
    target = tmp_path / "start.safetensors"
    words = ["transfer-weights", source, tiny_yaml, target, "--queries", "kmeans"]
    assert cli.main([str(word) for word in words]) == 0
    assert "sedan <- car" in capsys.readouterr().out
    lines = initialise_from(build_model(config), config, target)
    count = len(build_model(config).state_dict())
    assert lines[0] == f"train.init_weights {target}: {count} of {count} tensors copied"


def test_transfer_weights_takes_the_class_to_start_from(source, tiny_yaml, tmp_path, capsys):
    target = tmp_path / "start.safetensors"
    words = [str(word) for word in ("transfer-weights", source, tiny_yaml, target, "--from")]
    assert cli.main([*words, "car"]) == 0
    assert "owl <- car (new)" in capsys.readouterr().out
    target.unlink()
    assert cli.main([*words, "cat"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "person, car, box, mouse, keyboard" in error
    assert not target.exists()


def test_transfer_weights_refuses_an_unknown_rule_in_one_line(source, tiny_yaml, tmp_path, capsys):
    target = tmp_path / "start.safetensors"
    words = ["transfer-weights", source, tiny_yaml, target, "--queries", "best"]
    assert cli.main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "first, kmeans, most_used, nearest, reinitialise" in error
    assert not target.exists()


@pytest.mark.parametrize("name", ["coco", "queryinst_r50_100q_1x"])
def test_init_weights_in_a_config_download_nothing(config, tmp_path, monkeypatch, name):
    monkeypatch.setenv("QUERYINST_VIS_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=f"train.init_weights {name}: a config cannot trigger"):
        initialise_from(build_model(config), config, name)


def test_a_backbone_without_the_offsets_of_deformable_convolutions_is_transferred():
    plain = {"backbone.conv.weight": torch.zeros(4)}
    deformable = {**plain, "backbone.conv.offset.weight": torch.zeros(2)}
    assert has_backbone_of(deformable, plain)
    assert not has_backbone_of(plain, {"backbone.conv.weight": torch.zeros(5)})
