"""Weights by name: downloaded once, pinned, and converted if necessary."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from queryinst_vis import VideoTracker, cli
from queryinst_vis.checkpoints import catalogue, openmmlab
from queryinst_vis.checkpoints.catalogue import (
    CATALOGUE,
    SHORT_NAMES,
    PublicCheckpoint,
    cache_folder,
    find_weights,
)
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.weights import load_weights, save_weights
from queryinst_vis.config import Config, load_config
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.models.build import build_model
from queryinst_vis.utils.files import read_json, write_json_atomically
from tests.download_support import CONTENT, SHA256, WRONG, names_in
from tests.tiny import tiny_config

# The catalogue


@pytest.mark.parametrize(("name", "entry"), CATALOGUE.items(), ids=list(CATALOGUE))
def test_every_catalogue_entry_has_a_file_name_and_hash(name, entry):
    assert entry.url.startswith("https://download.openmmlab.com/mmdetection/v2.0/queryinst/")
    config, _, suffix = entry.file.partition("_coco_")
    assert entry.url.split("/")[-2] == f"{config}_coco"
    assert re.fullmatch(r"2021\d{4}_\d{6}-[0-9a-f]{8}\.pth", suffix)
    assert re.fullmatch(r"[0-9a-f]{8}", entry.hash_prefix)
    backbone, queries, schedule = re.fullmatch(
        r"queryinst_(r\d+)_(\d+)q_(\dx)(?:_crop)?", name
    ).groups()
    assert f"_{backbone}_" in config and config.endswith(schedule)
    assert ("300_proposals" in config) == (queries == "300")
    assert ("crop" in config) == ("crop" in name)


def test_the_catalogue_has_five_distinct_entries():
    assert len({entry.hash_prefix for entry in CATALOGUE.values()}) == len(CATALOGUE) == 5


def test_a_config_named_like_an_entry_describes_the_same_model():
    folder = Path(__file__).parent.parent / "configs" / "coco"
    names = [name for name in CATALOGUE if (folder / f"{name}.yaml").exists()]
    assert len(names) >= 3
    for name in names:
        model = load_config(folder / f"{name}.yaml").model
        summary = CATALOGUE[name].summary
        assert f"{model.num_queries} queries" in summary and len(model.classes) == 80
        assert model.backbone.name.replace("resnet", "ResNet-") in summary


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QUERYINST_VIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def entry(server, cache, monkeypatch):
    """The server's content under the name ``tiny``; conversion gives a model that tracks."""
    config = tiny_config()

    def convert(source, target):
        assert source.read_bytes() == CONTENT
        save_weights(target, build_model(config), config)

    entry = PublicCheckpoint(server.url(f"tiny-{SHA256[:8]}.pth"), "COCO", "a test", "MIT")
    monkeypatch.setattr(catalogue, "convert_checkpoint", convert)
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    return entry


def test_a_catalogue_name_can_be_used_in_place_of_a_path(entry, cache, server):
    tracker = VideoTracker.from_pretrained("tiny", "cpu")
    assert tracker.class_names == ["box", "crate"]
    assert find_weights("tiny") == cache / "tiny.safetensors"
    assert names_in(cache) == [".lock", "pins.json", "tiny.safetensors"]
    assert read_json(cache / "pins.json", "pins") == {entry.file: SHA256}


def test_cached_weights_need_no_network(entry, server):
    first = find_weights("tiny").read_bytes()
    server.shutdown()
    server.server_close()
    assert find_weights("tiny").read_bytes() == first
    assert len(server.ranges) == 1


def test_concurrent_processes_download_once(entry, server):
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(find_weights, ["tiny"] * 4))) == 1
    assert len(server.ranges) == 1


def test_a_download_that_differs_from_the_pinned_hash_is_refused(entry, cache, server, monkeypatch):
    find_weights("tiny").unlink()
    find_weights("tiny").unlink()  # downloading the same content again is accepted
    write_json_atomically(cache / "pins.json", {entry.file: SHA256[:8] + WRONG[8:]})
    with pytest.raises(InputError, match=r"weights 'tiny': .*pins\.json"):
        find_weights("tiny")
    assert names_in(cache) == [".lock", "pins.json"]


def test_a_wrong_hash_is_neither_pinned_nor_converted(entry, cache, server):
    server.content = b"something else"
    with pytest.raises(InputError, match=f"weights 'tiny': .*expected {SHA256[:8]}"):
        find_weights("tiny")
    assert names_in(cache) == [".lock"]


def test_a_cut_connection_is_resumed_by_the_same_command(entry, cache, server):
    server.cut = 3_000_000
    with pytest.raises(InputError, match="was interrupted"):
        find_weights("tiny")
    assert names_in(cache) == [".lock", f"{entry.file}.part"]
    server.cut = None
    assert find_weights("tiny").is_file()
    assert names_in(cache) == [".lock", "pins.json", "tiny.safetensors"]


def test_a_failing_conversion_leaves_no_weights(entry, cache, monkeypatch):
    def refuse(source, target):
        raise InputError(f"checkpoint {source}: another layout")

    monkeypatch.setattr(catalogue, "convert_checkpoint", refuse)
    with pytest.raises(InputError, match="another layout"):
        find_weights("tiny")
    assert names_in(cache) == [".lock", "pins.json"]


def test_an_unwritable_cache_is_refused(entry, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("QUERYINST_VIS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match="QUERYINST_VIS_CACHE"):
        find_weights("tiny")


def test_the_cache_folder_follows_the_environment_variables(monkeypatch):
    monkeypatch.setenv("QUERYINST_VIS_CACHE", "/chosen")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/chosen")
    monkeypatch.delenv("QUERYINST_VIS_CACHE")
    assert cache_folder() == Path("/xdg/queryinst_vis")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "queryinst_vis"


def test_files_take_precedence_over_catalogue_names(entry, tmp_path, monkeypatch, server):
    monkeypatch.chdir(tmp_path)
    Path("tiny").write_bytes(b"a file of that name")
    assert find_weights("tiny") == Path("tiny")
    assert server.ranges == []


def test_an_unknown_name_lists_all_names(cache, capsys, tmp_path):
    words = ["track", "none.mp4", "--weights", "queryinst_r50", "--out", str(tmp_path / "out")]
    with pytest.raises(InputError) as error:
        find_weights("queryinst_r50")
    assert all(name in str(error.value) for name in ["people", "shapes", *CATALOGUE])
    assert cli.main(["weights", "queryinst_r50"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "queryinst_r101_100q_3x" in shown
    assert cli.main(words) == 2
    assert not cache.exists()


@pytest.fixture
def tiny_coco(server, tmp_path, monkeypatch):
    """A small model in mmdetection's layout, served as the entry ``coco``."""
    config = Config()
    config.model.classes = load_config(
        Path(__file__).parent.parent / "configs" / "_base_" / "queryinst_r50.yaml"
    ).model.classes
    config.model.backbone.name = "resnet18"
    config.model.channels, config.model.num_queries, config.model.num_stages = 32, 10, 1
    config.model.ffn_channels, config.model.dynamic_channels = 64, 8
    torch.manual_seed(0)
    original = build_model(config)
    weights = openmmlab.export_state_dict(original.state_dict())
    torch.save({"meta": {"epoch": 12}, "state_dict": weights}, tmp_path / "checkpoint.pth")
    server.content = (tmp_path / "checkpoint.pth").read_bytes()
    prefix = hashlib.sha256(server.content).hexdigest()[:8]
    entry = PublicCheckpoint(server.url(f"r18-{prefix}.pth"), "COCO", "a test", "MIT")
    monkeypatch.setitem(CATALOGUE, SHORT_NAMES["coco"], entry)
    return original, config


def test_an_mmdetection_checkpoint_is_downloaded_converted_and_loaded(tiny_coco, cache):
    original, config = tiny_coco
    model, found = load_model("coco", "cpu")
    assert found.model.classes == config.model.classes
    assert torch.equal(model.queries, original.queries)
    assert load_weights(find_weights("coco"))[1].keys() == original.state_dict().keys()


def test_size_and_licence_are_shown_before_the_download(tiny_coco, server, capsys):
    server.cut = 10_000  # the connection always breaks after the beginning
    with pytest.raises(InputError, match="was interrupted"):
        find_weights("coco")
    size = f"{len(server.content) / 1e6:.1f} MB"
    url = CATALOGUE[SHORT_NAMES["coco"]].url
    assert capsys.readouterr().err.startswith(f"fetching {url}: {size}, licence: MIT\n")


def test_coco_weights_track_with_bytetrack_and_nms(tiny_coco, cache):
    """An image model has no track head: ByteTrack associates, and NMS suppresses duplicates."""
    with pytest.warns(InputWarning, match=r"tracking.rule=bytetrack .*nms_threshold=0.5"):
        tracker = VideoTracker.from_pretrained("coco", "cpu", ["inference.score_threshold=0"])
    found = tracker.update(np.full((64, 96, 3), 110, dtype=np.uint8))
    assert found.track_ids.tolist() == list(range(len(found))) and len(found) > 0
    overlaps = box_iou(found.boxes, found.boxes).fill_diagonal_(0)
    assert overlaps[found.labels[:, None] == found.labels].max() <= 0.5
    assert "person" in tracker.class_names and len(tracker.class_names) == 80


# The command


def test_the_command_lists_entries_and_their_files(entry, cache, capsys):
    assert cli.main(["weights"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ["people", "shapes", *CATALOGUE])
    assert f"not downloaded yet: {entry.url}" in shown
    assert cli.main(["weights", "tiny"]) == 0
    assert capsys.readouterr().out.strip() == str(cache / "tiny.safetensors")
    assert cli.main(["weights"]) == 0
    shown = capsys.readouterr().out
    assert str(cache / "tiny.safetensors") in shown and entry.url not in shown
