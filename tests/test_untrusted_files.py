"""Untrusted weights, checkpoints and configs: valid ones load, others end in one line."""

import copy
import json
import math
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from queryinst_vis import VideoTracker
from queryinst_vis.checkpoints import catalogue
from queryinst_vis.checkpoints.download import download
from queryinst_vis.checkpoints.reading import read_checkpoint
from queryinst_vis.checkpoints.training_state import (
    TrainingState,
    load_training_state,
    save_training_state,
)
from queryinst_vis.checkpoints.weights import build_for_inference, load_weights, save_weights
from queryinst_vis.cli import main
from queryinst_vis.config import DatasetConfig, apply_overrides, config_from_dict, config_to_dict
from queryinst_vis.data.loader import open_dataset
from queryinst_vis.errors import InputError
from queryinst_vis.formats.names import refuse_outside
from queryinst_vis.formats.reading import read_json_or_zip
from queryinst_vis.models.build import build_model
from queryinst_vis.models.roi import RoIExtractor
from queryinst_vis.structures import Detections
from queryinst_vis.utils.files import write_json_atomically
from tests.tiny import tiny_config, write_videos

BAD_TENSORS = {
    "NaN": torch.tensor([1.0, float("nan")]),
    "infinite": torch.tensor([1.0, float("inf")]),
    "too large for float32": torch.tensor([1e300], dtype=torch.float64),
    "complex": torch.ones(2, dtype=torch.complex64),
    "bool": torch.ones(2, dtype=torch.bool),
    "repeated": torch.zeros(1).expand(10**6, 10**6),
    "sparse": torch.zeros(5).to_sparse(),
}


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_non_finite_tensors_are_refused(tmp_path, kind):
    torch.save({"state_dict": {"w": BAD_TENSORS[kind]}}, tmp_path / "theirs.pth")
    with pytest.raises(InputError, match="'w'"):
        read_checkpoint(tmp_path / "theirs.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_shipped_weights_are_finite(tmp_path, value):
    config = tiny_config()
    model = build_model(config)
    with torch.no_grad():
        model.queries[0, 0] = value
    save_weights(tmp_path / "w.safetensors", model, config)
    with pytest.raises(InputError, match=r"'queries'.*not finite"):
        load_weights(tmp_path / "w.safetensors")
    state = TrainingState(1, None, config, model.state_dict(), {})
    save_training_state(tmp_path / "last.ckpt", state)
    with pytest.raises(InputError, match=r"'queries'.*not finite"):
        load_training_state(tmp_path / "last.ckpt")


@pytest.mark.parametrize("box", [float("nan"), float("inf"), -float("inf"), 1e38])
def test_boxes_that_are_not_finite_do_not_crash_the_pooling(box):
    boxes = torch.tensor([[0.0, 0.0, box, box], [box, box, 8.0, 8.0]])
    assert RoIExtractor(7)([torch.ones(1, 2, 8, 8)], [boxes]).shape == (2, 2, 7, 7)


@pytest.mark.parametrize("key", ["step", "config", "model", "moments"])
@pytest.mark.parametrize("value", ["absent", None, "text", [1], float("nan")])
def test_a_damaged_training_state_names_the_part(tmp_path, key, value):
    save_training_state(tmp_path / "last.ckpt", TrainingState(1, 0.5, tiny_config(), {}, {}))
    content = torch.load(tmp_path / "last.ckpt") | {key: value}
    if value == "absent":
        del content[key]
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=f"'{key}' is"):
        load_training_state(tmp_path / "last.ckpt")


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {}},
    "nested": lambda state: {"ema": {"module": {"state_dict": state}}},
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "teacher.": lambda state: {
        "state_dict": {
            **{f"student.{key}": value + 1 for key, value in state.items()},
            **{f"teacher.module.{key}": value for key, value in state.items()},
        }
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("name", ["theirs.pth", "theirs.safetensors", "theirs.ckpt"])
def test_wrapped_state_dicts_are_found_under_any_file_name(tmp_path, wrapping, name):
    state = {"backbone.conv1.weight": torch.arange(4.0), "neck.bias": torch.ones(2).half()}
    torch.save(WRAPPINGS[wrapping](state), tmp_path / name)
    found = read_checkpoint(tmp_path / name).state_dict
    assert list(found) == list(state)
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_safetensors_file_with_another_suffix_is_read(tmp_path):
    save_file({"module.w": torch.ones(2)}, tmp_path / "theirs.pth")
    assert list(read_checkpoint(tmp_path / "theirs.pth").state_dict) == ["w"]


@pytest.mark.parametrize("key", [7, None, ("a", 1)])
def test_keys_that_are_not_text_are_refused(tmp_path, key):
    torch.save({"state_dict": {"w": torch.ones(1), key: torch.ones(1)}}, tmp_path / "theirs.pth")
    with pytest.raises(InputError, match="is not text"):
        read_checkpoint(tmp_path / "theirs.pth")


def test_an_empty_checkpoint_is_refused(tmp_path):
    (tmp_path / "empty.pth").touch()
    with pytest.raises(InputError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "empty.pth")


@pytest.mark.parametrize("name", ["hf-hub:a/b", "local-dir:/tmp", "../x", "https://x/y", ""])
def test_backbones_are_loaded_only_from_timm(name):
    config = tiny_config()
    config.model.backbone.name = name
    with pytest.raises(InputError, match="plain name"):
        build_model(config)


def test_a_config_inside_a_weights_file_reads_no_environment_variable(monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    values = config_to_dict(tiny_config())
    values["model"]["classes"] = ["a", "${oc.env:SECRET}"]
    with pytest.raises(InputError, match=r"'model.classes.1' is") as error:
        config_from_dict(values, "weights")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        "model.track.hidden_channels=1000000000",
        "model.mask.num_convs=1000000000",
        "model.num_queries=2000000000",
        "model.num_stages=1000000",
    ],
)
def test_sizes_are_bounded_before_anything_is_built(override):
    with pytest.raises(InputError, match="at most"):
        build_model(apply_overrides(tiny_config(), [override]))


def test_widths_that_are_too_large_together_are_refused():
    overrides = ["model.channels=32768", "model.ffn_channels=65536"]
    with pytest.raises(InputError, match="parameters"):
        build_model(apply_overrides(tiny_config(), overrides))


def test_sizes_are_compared_with_the_file_before_anything_is_allocated():
    weights = build_model(tiny_config()).state_dict()
    config = apply_overrides(tiny_config(), ["model.channels=4096"])
    with pytest.raises(InputError, match="checkpoint of another config"):
        build_for_inference(config, weights, "weights w")


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize("key", ["train.lr", "losses.dice", "tracking.match_threshold"])
def test_hyper_parameters_are_finite(key, value):
    with pytest.raises(InputError, match=f"{key}: .*finite"):
        apply_overrides(tiny_config(), [f"{key}={value}"])


@pytest.mark.parametrize("pins", ["[]", "7", '{"a.pth": ""}', '{"a.pth": null}', '{"a.pth": 5}'])
def test_a_broken_pin_file_accepts_no_download(tmp_path, pins):
    (tmp_path / "pins.json").write_text(pins)
    with pytest.raises(InputError, match="pinned hashes"):
        catalogue.read_pins(tmp_path / "pins.json")


def test_a_download_does_not_write_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("x")
    (tmp_path / "file.part").symlink_to("precious")
    with pytest.raises(InputError, match="link"):
        download("https://127.0.0.1:9/file", tmp_path / "file", "0" * 64)
    assert (tmp_path / "precious").read_text() == "x"


def test_a_zip_that_unpacks_to_a_gigabyte_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "r.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("results.json", json.dumps([]) + " " * 60_000_000)
    with pytest.raises(InputError, match="unpacks from"):
        read_json_or_zip(tmp_path / "r.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_zip_ends_in_one_line_for_every_compression(tmp_path, method):
    text = json.dumps(np.random.default_rng(0).integers(0, 10**9, 2000).tolist())
    with zipfile.ZipFile(tmp_path / "r.zip", "w", method) as archive:
        archive.writestr("results.json", text)
    data = bytearray((tmp_path / "r.zip").read_bytes())
    for at in range(200, 5000, 50):
        data[at] ^= 0xFF
    (tmp_path / "r.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"r\.zip: unreadable zip"):
        read_json_or_zip(tmp_path / "r.zip")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_non_finite_numbers_are_not_written_to_json(tmp_path, value):
    with pytest.raises(InputError, match="infinite or NaN"):
        write_json_atomically(tmp_path / "out.json", {"annotations": [{"score": value}]})
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def frame():
    return np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_tracker_can_be_copied_and_pickled(frame, copied):
    tracker = VideoTracker.from_pretrained("shapes", device="cpu")
    clone = copied(tracker)
    assert torch.equal(clone.update(frame).boxes, tracker.update(frame).boxes)


@pytest.mark.parametrize("default", [torch.float64, torch.float16, "meta"])
def test_a_tracker_does_not_depend_on_torch_defaults(frame, default):
    expected = VideoTracker.from_pretrained("shapes", device="cpu").update(frame)
    try:
        if default == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(default)
        found = VideoTracker.from_pretrained("shapes", device="cpu").update(frame)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert found.boxes.dtype == torch.float32
    assert torch.allclose(found.boxes, expected.boxes, atol=0.01)  # other kernels under a device
    assert torch.equal(found.track_ids, expected.track_ids)


def test_other_detectors_run_under_the_usual_torch_defaults(frame):
    class Plain:
        config = tiny_config()
        has_track_head = False

        def detect_frames(self, frames, embedding=None):
            one = torch.ones(1)
            assert (one.dtype, one.device.type) == (torch.float32, "cpu")
            boxes = torch.tensor([[8.0, 8, 40, 40]])
            labels = torch.zeros(1, dtype=torch.int64)
            return [Detections(boxes, one, labels, frame.shape[:2]) for frame in frames]

    tracker = VideoTracker(Plain())
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        found = [tracker.update(frame).track_ids.tolist() for _ in range(2)]
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert found == [[0], [0]]


def test_loading_does_not_change_the_random_state():
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    VideoTracker.from_pretrained("shapes", device="cpu")
    assert torch.equal(state, torch.random.get_rng_state())


class TestImagesOutsideOfTheirFolder:
    """An annotation file cannot make a command open files outside its folder."""

    @pytest.fixture
    def folder(self, tmp_path):
        """A set of one video whose second frame lies beside the image folder."""
        images = tmp_path / "images"
        data = write_videos(images, videos=1, frames=2)
        content = json.loads(Path(data.annotations).read_text())
        shutil.move(images / "0" / "1.png", tmp_path / "1.png")
        content["videos"][0]["file_names"] = ["0/0.png", "../1.png"]
        (tmp_path / "set.json").write_text(json.dumps(content))
        return tmp_path

    def commands(self, folder):
        """Command lines that open images, without the switch that trusts the file."""
        annotations, images = str(folder / "set.json"), str(folder / "images")
        return {
            "browse": f"data browse {annotations} --images {images} --out {folder}/sheet.jpg",
            "to-mots": f"convert-dataset to-mots {annotations} {folder}/mots --images {images}"
            " --class box=car --class crate=car --class unknown=none",
        }

    @pytest.mark.parametrize("name", ["browse", "to-mots"])
    def test_a_command_opens_them_on_request_only(self, folder, name, capsys):
        words = self.commands(folder)[name].split()
        assert main(words) == 2
        assert "../1.png" in (said := capsys.readouterr().err)
        assert "--allow-outside" in said
        assert main([*words, "--allow-outside"]) == 0

    def test_training_and_testing_open_them_on_request_only(self, folder):
        data = DatasetConfig(str(folder / "set.json"), str(folder / "images"))
        with pytest.raises(InputError, match=r"\.\./1\.png.*allow_outside=true"):
            open_dataset(data, ["box"])
        [video] = open_dataset(replace(data, allow_outside=True), ["box"]).videos
        assert video.paths[1].is_file()

    @pytest.mark.parametrize("name", ["/etc/passwd", "a/../../b.png", "C:\\b.png"])
    def test_what_leaves_a_folder(self, name):
        with pytest.raises(InputError, match="below the image folder"):
            refuse_outside(["a/b..png", name], "set.json")
        refuse_outside([name], "set.json", allow_outside=True)


def test_temporary_weight_files_have_recognisable_names(tmp_path, monkeypatch):
    """Leftovers of a killed process are removed by the next command, recognised by name."""
    config, seen = tiny_config(), []
    write = Path.write_bytes

    def watched(path, data):
        write(path, data)
        seen.extend(file.name for file in tmp_path.iterdir())

    monkeypatch.setattr(Path, "write_bytes", watched)
    save_weights(tmp_path / "w.safetensors", build_model(config), config)
    assert len(seen) == 1
    assert seen[0].startswith(".w-")
    load_weights(tmp_path / "w.safetensors")
