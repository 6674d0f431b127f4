"""ONNX: an exported file gives the outputs of PyTorch, or the export is refused.

Exporting takes seconds, so that one file, exported by the command line, serves all tests.
"""

from __future__ import annotations

import errno
import json
import sys
from contextlib import redirect_stdout
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from queryinst_vis import cli
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.config import apply_overrides, config_from_dict
from queryinst_vis.errors import InputError
from queryinst_vis.inference import onnx_export as exporting
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.onnx_export import export_onnx
from queryinst_vis.inference.onnx_model import load_onnx_model
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.models.roi import assign_levels
from queryinst_vis.video.writer import VideoWriter
from tests.closeness import assert_equal_to_rounding
from tests.export_support import (
    BATCH,
    OUTPUTS,
    PROPOSALS,
    SHARE,
    SIDE,
    Exported,
    assert_same_detections,
    network_inputs,
    outputs_of_pytorch,
    square_frames,
    tiny_model,
)
from tests.tiny import CLASSES, draw_frame


@pytest.fixture(scope="module")
def onnxruntime():
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} is not installed (pip install -e '.[onnx]')")
    return pytest.importorskip(
        "onnxruntime", reason="onnxruntime is not installed (pip install -e '.[onnx]')"
    )


@pytest.fixture(scope="module")
def exported(onnxruntime, tmp_path_factory):
    """A tiny model with a track head, as ``export-onnx`` writes it."""
    folder = tmp_path_factory.mktemp("onnx")
    model, config = tiny_model()
    save_weights(folder / "tiny.safetensors", model, config)
    with redirect_stdout(StringIO()) as said:
        words = ["export-onnx", folder / "tiny.safetensors", "inference.mask_threshold=0.4"]
        words += ["--size", f"{SIDE}x{SIDE}", "--batch", BATCH, "--output", folder / "tiny.onnx"]
        assert cli.main([str(word) for word in words]) == 0
    model, config = load_model(folder / "tiny.safetensors", "cpu", ["inference.mask_threshold=0.4"])
    return Exported(folder / "tiny.onnx", model, config, said.getvalue())


@pytest.fixture(scope="module")
def detector(exported):
    return Detector.from_pretrained(exported.path)


# The file


def test_every_output_equals_pytorch(exported, onnxruntime):
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    images, sizes = network_inputs()
    inputs = {"images": images.numpy(), "image_sizes": np.array(sizes, np.float32)}
    found = dict(zip(OUTPUTS, session.run(OUTPUTS, inputs), strict=True))
    expected = outputs_of_pytorch(exported.model)
    assert set(assign_levels(expected["boxes"].flatten(0, 1), 4).tolist()) == {0, 1, 2, 3}
    for name in OUTPUTS:
        theirs = expected[name]
        largest = max(theirs.abs().max().item(), 1.0)
        assert theirs.std() > 20 * SHARE * largest, f"{name}: nearly constant, shows nothing"
        assert_equal_to_rounding(torch.from_numpy(found[name]), theirs, SHARE)


def test_shapes_are_static_and_the_metadata_describes_the_model(exported, onnxruntime):
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    queries, classes = len(PROPOSALS), len(CLASSES)
    assert {value.name: value.shape for value in session.get_inputs()} == {
        "images": [BATCH, 3, SIDE, SIDE],
        "image_sizes": [BATCH, 2],
    }
    assert {value.name: value.shape for value in session.get_outputs()} == {
        "class_logits": [BATCH, queries, classes],
        "boxes": [BATCH, queries, 4],
        "mask_logits": [BATCH, queries, classes, 28, 28],
        "queries": [BATCH, queries, 32],
        "embeddings": [BATCH, queries, 16],
    }
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == CLASSES
    config = config_from_dict(json.loads(metadata["config"]), "metadata")
    assert (config.model, config.inference) == (exported.config.model, exported.config.inference)


def test_the_command_prints_what_it_wrote(exported):
    assert exported.said.startswith(f"wrote {exported.path}: {BATCH} x {SIDE}x{SIDE} to ")
    assert ", ".join(OUTPUTS) in exported.said


# Inference


@pytest.mark.parametrize("embedding", ["track_head", "query"])
def test_detections_equal_pytorch(exported, detector, embedding):
    frames = square_frames(3)  # a batch, and one of which half is missing
    found = detector.detect_frames(frames, embedding)
    expected = Detector(exported.model, exported.config).detect_frames(frames, embedding)
    assert_same_detections(found, expected)


@pytest.mark.parametrize("overlap", ["boxes", "masks"])
def test_nms_gives_the_detections_of_pytorch(exported, detector, overlap):
    overrides = ["inference.nms_threshold=0.1", f"inference.nms_overlap={overlap}"]
    found = Detector.from_pretrained(exported.path, overrides=overrides).detect_frames(
        square_frames(2)
    )
    config = apply_overrides(exported.config, overrides)
    expected = Detector(exported.model, config).detect_frames(square_frames(2))
    assert_same_detections(found, expected)
    everything = detector.detect_frames(square_frames(2))
    assert 0 < sum(map(len, found)) < sum(map(len, everything))


def test_embeddings_can_be_left_out(detector):
    (found,) = detector.detect_frames(square_frames(1), embedding=None)
    assert len(found) > 0 and found.embeddings is None


def test_a_smaller_frame_is_padded(exported, detector):
    square, low = square_frames(1)[0], draw_frame(1)
    found = detector.detect_frames([low, square])
    # PyTorch pads it to the same square
    expected = Detector(exported.model, exported.config).detect_frames([low, square])
    assert_same_detections(found, expected)


def test_a_detector_describes_itself_and_takes_overrides(exported):
    detector = Detector.from_pretrained(exported.path, overrides=["inference.max_per_image=2"])
    assert detector.class_names == CLASSES
    model, _ = load_onnx_model(exported.path)
    assert (model.height, model.width, model.batch) == (SIDE, SIDE, BATCH)
    assert [len(found) for found in detector.detect_frames(square_frames(1))] == [2]


def test_no_frames_give_no_detections(detector):
    assert detector.detect_frames([]) == []


def test_tracks_equal_pytorch(exported):
    overrides = ["inference.one_label_per_query=false", "tracking.score_weight=0.5"]
    tracker = VideoTracker.from_pretrained(exported.path, "cpu", overrides)
    config = apply_overrides(exported.config, overrides)
    expected = VideoTracker(Detector(exported.model, config))
    assert tracker.class_names == expected.class_names
    for frame in square_frames(4):
        ours, theirs = tracker.update(frame), expected.update(frame)
        assert_same_detections([ours], [theirs])
        assert ours.track_ids.tolist() == theirs.track_ids.tolist()


def test_the_track_command_accepts_an_onnx_file(exported, tmp_path):
    frames = square_frames(3)
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for frame in frames:
            writer.write(frame)
    words = ["track", tmp_path / "clip.mp4", "--weights", exported.path, "--out", tmp_path / "out"]
    with redirect_stdout(StringIO()):
        assert cli.main([str(word) for word in [*words, "--score-threshold", 0]]) == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())


# Refusals


def test_a_size_for_a_graph_whose_size_is_fixed_is_refused(exported):
    with pytest.raises(InputError, match=r"max_size: .*tiny\.onnx .*--size"):
        VideoTracker.from_pretrained(exported.path, max_size=64)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_onnxruntime_lacks_is_refused(exported, onnxruntime, monkeypatch, device):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match=rf"device '{device}': .*cpu"):
        Detector.from_pretrained(exported.path, device)


def test_a_frame_that_is_too_large_names_both_sizes_and_the_remedy(exported):
    detector = Detector.from_pretrained(
        exported.path, overrides=["input.test_short=700", "input.test_long=1000"]
    )
    with pytest.raises(InputError) as refusal:
        detector.detect_frames([draw_frame(0)])
    message = str(refusal.value)
    assert f"a network input of 1000x667 does not fit {exported.path}" in message
    assert f"which was exported for {SIDE}x{SIDE}" in message
    assert "'queryinst-vis export-onnx WEIGHTS --size 1024x672 --output FILE'" in message


def test_input_that_is_no_frame_is_refused(detector):
    with pytest.raises(InputError, match="a frame must be"):
        detector.detect_frames([np.zeros((64, 64), np.uint8)])


def test_overrides_that_would_change_the_graph_are_refused(exported):
    with pytest.raises(InputError, match=r"override of model\.num_queries: "):
        Detector.from_pretrained(exported.path, overrides=["model.num_queries=7"])


@pytest.mark.parametrize("fault", ["missing", "empty", "text", "truncated"])
def test_a_file_that_cannot_be_read_is_refused_by_name(exported, fault, tmp_path):
    path, whole = tmp_path / "faulty.onnx", exported.path.read_bytes()
    if fault != "missing":
        path.write_bytes({"empty": b"", "text": b"no model", "truncated": whole[:20000]}[fault])
    with pytest.raises(InputError, match=r"ONNX file .*faulty\.onnx: ") as refusal:
        Detector.from_pretrained(path)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "not written by queryinst_vis, export it with 'queryinst-vis export-onnx'"),
        ({"format": "queryinst_vis/onnx/1"}, "the config in the file is missing or invalid"),
        ({"format": "queryinst_vis/onnx/1", "config": "{"}, "missing or invalid"),
        ({"format": "queryinst_vis/onnx/1", "config": '{"modle": 1}'}, "did you mean 'model'"),
    ],
)
def test_a_file_of_another_kind_is_refused(onnxruntime, metadata, message, tmp_path):
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, metadata)
    onnx.save(model, tmp_path / "relu.onnx")
    with pytest.raises(InputError, match=message):
        Detector.from_pretrained(tmp_path / "relu.onnx")


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_exporting_without_the_packages_names_the_extra_to_install(missing, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)
    message = rf"needs the packages .*\b{missing}\b.*: pip install 'queryinst-vis\[onnx\]'"
    with pytest.raises(InputError, match=message):
        export_onnx(*tiny_model(), tmp_path / "a.onnx", 64, 64)
    assert list(tmp_path.iterdir()) == []


def test_running_without_the_package_names_the_extra_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = r"needs the packages onnxruntime: pip install 'queryinst-vis\[onnx\]'"
    with pytest.raises(InputError, match=message):
        Detector.from_pretrained(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("height", "width", "batch", "message"),
    [
        (360, 640, 1, "size 640x360: both sides .* multiples of 32; 640x384 has room"),
        (64, 0, 1, "size 0x64: .*; 32x64 has room"),
        (64, 64, 0, "batch must be 1 or more, got 0"),
    ],
)
def test_invalid_network_input_sizes_are_refused(
    onnxruntime, height, width, batch, message, tmp_path
):
    with pytest.raises(InputError, match=message):
        export_onnx(*tiny_model(), tmp_path / "a.onnx", height, width, batch)
    assert list(tmp_path.iterdir()) == []


def test_the_file_must_have_the_suffix_by_which_it_is_recognised(onnxruntime, tmp_path):
    with pytest.raises(InputError, match=r"people\.txt: .* must end in \.onnx"):
        export_onnx(*tiny_model(), tmp_path / "people.txt", 64, 64)


def test_a_failed_export_leaves_no_file(onnxruntime, monkeypatch, tmp_path):
    def fail(*arguments, **options):
        advice = torch.onnx.OnnxExporterError("next steps:\nmodify the code")
        raise advice from ValueError("no such operator\nand much more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    message = "cannot export this model to ONNX with the backbone lcnet_035: no such operator$"
    with pytest.raises(InputError, match=message):
        export_onnx(*tiny_model(), tmp_path / "a.onnx", 64, 64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, r"1\.7 GB of weights"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"cannot write .*a\.onnx: No space",
        ),
    ],
)
def test_weights_in_a_second_file_are_refused_and_removed(monkeypatch, tmp_path, error, message):
    """PyTorch writes large models with their weights in a separate file."""

    class Large:
        model = SimpleNamespace(metadata_props={})

        def save(self, path):
            path.write_bytes(b"model")
            with path.with_name(f"{path.name}.data").open("wb") as second:
                second.truncate(1_700_000_000)  # without a block on the disk
            if error is not None:
                raise error

    monkeypatch.setattr(exporting, "require_packages", lambda *names: None)
    monkeypatch.setattr(torch.onnx, "export", lambda *arguments, **options: Large())
    with pytest.raises(InputError, match=message):
        export_onnx(*tiny_model(), tmp_path / "a.onnx", 64, 64)
    assert list(tmp_path.iterdir()) == []


# Slow checks


@pytest.mark.slow
@pytest.mark.parametrize("name", ["people", "shapes"])
def test_exported_shipped_weights_give_the_detections_of_pytorch(onnxruntime, name, tmp_path):
    model, config = load_model(name, "cpu", ["inference.score_threshold=0"])
    short, long = config.input.test_short, config.input.test_long
    height, width = (-(-side // 32) * 32 for side in (short, long))
    export_onnx(model, config, tmp_path / "shipped.onnx", height, width)
    frame = np.random.default_rng(0).integers(0, 256, (short, long, 3), dtype=np.uint8)
    found = Detector.from_pretrained(tmp_path / "shipped.onnx").detect_frames([frame])
    assert_same_detections(found, Detector(model, config).detect_frames([frame]))


@pytest.mark.slow
def test_without_a_track_head_queries_take_the_place_of_embeddings(onnxruntime, tmp_path):
    model, config = tiny_model(track=False)
    outputs = export_onnx(model.strip_training_heads(), config, tmp_path / "a.onnx", SIDE, SIDE)
    assert outputs == ["class_logits", "boxes", "mask_logits", "queries"]
    detector = Detector.from_pretrained(tmp_path / "a.onnx")
    assert detector.detect_frames(square_frames(1))[0].embeddings is None
    found = detector.detect_frames(square_frames(1), "query")
    assert_same_detections(found, Detector(model, config).detect_frames(square_frames(1), "query"))
