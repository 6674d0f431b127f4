"""OpenVINO: an exported model gives the outputs of PyTorch, and nearly so in int8.

Exporting takes seconds, so that one model, exported by the command line, serves all tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO

import cv2
import numpy as np
import pytest
import torch

from queryinst_vis import cli
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.data.transforms import network_input
from queryinst_vis.errors import InputError
from queryinst_vis.inference.calibration import calibration_frames
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.exported_model import graph_inputs
from queryinst_vis.inference.openvino_export import export_openvino
from queryinst_vis.inference.openvino_model import no_telemetry
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.video.writer import VideoWriter
from tests.closeness import assert_equal_to_rounding
from tests.export_support import (
    BATCH,
    OUTPUTS,
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
def openvino():
    reason = "{} is not installed (pip install -e '.[openvino]')"
    with no_telemetry():
        pytest.importorskip("nncf", reason=reason.format("nncf"))
        return pytest.importorskip("openvino", reason=reason.format("openvino"))


@pytest.fixture(scope="module")
def exported(openvino, tmp_path_factory):
    """A tiny model with a track head, as ``export-openvino`` writes it."""
    folder = tmp_path_factory.mktemp("openvino")
    save_weights(folder / "tiny.safetensors", *tiny_model())
    overrides = ["inference.mask_threshold=0.4"]
    command = ["export-openvino", folder / "tiny.safetensors", *overrides]
    command += ["--size", f"{SIDE}x{SIDE}", "--batch", BATCH, "--output", folder / "tiny.xml"]
    with redirect_stdout(StringIO()) as said:
        assert cli.main([str(word) for word in command]) == 0
    model, config = load_model(folder / "tiny.safetensors", "cpu", overrides)
    return Exported(folder / "tiny.xml", model, config, said.getvalue())


@pytest.fixture(scope="module")
def detector(exported):
    return Detector.from_pretrained(exported.path)


def outputs_of(path, images, sizes) -> dict[str, torch.Tensor]:
    """The float32 outputs of OpenVINO itself."""
    with no_telemetry():
        openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(graph_inputs(images, sizes, (BATCH, 3, SIDE, SIDE)))
    return {name: torch.from_numpy(found[name]) for name in OUTPUTS}


# The files


def test_every_output_equals_pytorch(exported):
    found = outputs_of(exported.path, *network_inputs())
    expected = outputs_of_pytorch(exported.model)
    for name in OUTPUTS:
        assert_equal_to_rounding(found[name], expected[name], SHARE)


def test_the_metadata_describes_the_model(exported, openvino):
    model = openvino.Core().read_model(exported.path)
    kept = {
        name: model.get_rt_info(["queryinst_vis", name]).astype(str)
        for name in ("format", "config", "classes")
    }
    assert kept["format"] == "queryinst_vis/openvino/1"
    assert json.loads(kept["classes"]) == CLASSES
    assert json.loads(kept["config"])["inference"]["mask_threshold"] == 0.4
    assert [output.any_name for output in model.outputs] == OUTPUTS
    assert list(model.input("images").shape) == [BATCH, 3, SIDE, SIDE]


def test_the_command_prints_what_it_wrote(exported):
    both = f"wrote {exported.path} and {exported.path.with_suffix('.bin')}: "
    assert exported.said.startswith(f"{both}{BATCH} x {SIDE}x{SIDE} to {', '.join(OUTPUTS)}")


# Inference


@pytest.mark.parametrize("embedding", ["track_head", "query"])
def test_detections_equal_pytorch(exported, detector, embedding):
    frames = square_frames(3)  # a batch, and one of which half is missing
    found = detector.detect_frames(frames, embedding)
    expected = Detector(exported.model, exported.config).detect_frames(frames, embedding)
    assert_same_detections(found, expected)


def test_tracks_equal_pytorch(exported):
    tracker = VideoTracker.from_pretrained(exported.path, "cpu")
    expected = VideoTracker(Detector(exported.model, exported.config))
    for frame in square_frames(3):
        ours, theirs = tracker.update(frame), expected.update(frame)
        assert_same_detections([ours], [theirs])
        assert ours.track_ids.tolist() == theirs.track_ids.tolist()


def test_bf16_is_chosen_at_run_time(exported):
    coarse = Detector.from_pretrained(
        exported.path, overrides=["inference.precision=bf16-mixed", "inference.score_threshold=0"]
    )
    assert coarse.config.inference.precision == "bf16-mixed"
    assert len(coarse.detect_frames(square_frames(1))[0]) > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.num_queries=7"], r"override of model\.num_queries: fixed by the OpenVINO model"),
        (["inference.precision=16-mixed"], r"16-mixed: requires a CUDA device, this is 'cpu'"),
    ],
)
def test_unsupported_overrides_are_refused(exported, overrides, message):
    with pytest.raises(InputError, match=message):
        Detector.from_pretrained(exported.path, overrides=overrides)


def test_a_device_other_than_the_cpu_is_refused(exported):
    with pytest.raises(InputError, match="device 'cuda': "):
        Detector.from_pretrained(exported.path, "cuda")


def test_a_frame_that_is_too_large_names_the_remedy(exported):
    long = ["input.test_short=700", "input.test_long=1000"]
    detector = Detector.from_pretrained(exported.path, overrides=long)
    remedy = "'queryinst-vis export-openvino WEIGHTS --size 1024x672 --output FILE'"
    with pytest.raises(InputError, match=remedy):
        detector.detect_frames([draw_frame(0)])


# int8


_WATCHED = """
import socket, sys
def refuse(*arguments, **options):
    print("CONTACTED", arguments, file=sys.stderr)
    raise OSError("no network in this test")
socket.socket.connect = socket.socket.sendto = refuse
socket.getaddrinfo = socket.create_connection = refuse
from queryinst_vis import cli
for words in {commands}:
    assert cli.main(words) == 0, words
assert "openvino_telemetry" not in sys.modules
"""


@pytest.fixture(scope="module")
def watched(openvino, tmp_path_factory):
    """A folder, used as home, in which a process without network exported to int8 and detected.

    A child process, because NNCF disables its telemetry under pytest.
    """
    folder = tmp_path_factory.mktemp("int8")
    save_weights(folder / "tiny.safetensors", *tiny_model())
    for index, frame in enumerate(square_frames(8)):
        cv2.imwrite(str(folder / f"{index}.png"), frame[:, :, ::-1])
    size = f"--size {SIDE}x{SIDE} --batch {BATCH}"
    commands = [
        f"export-openvino tiny.safetensors {size} --output int8.xml --int8 *.png --frames 6",
        "detect 0.png --weights int8.xml --out out",
    ]
    environment = {"HOME": str(folder), "PATH": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", _WATCHED.format(commands=[text.split() for text in commands])],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return folder, run


def test_exporting_and_running_sends_no_telemetry(watched):
    folder, run = watched
    assert "CONTACTED" not in run.stderr
    assert not list(folder.rglob("*openvino_telemetry*"))
    assert run.stdout.splitlines()[0].startswith("wrote int8.xml and int8.bin: ")


def quantized_kinds(model):
    """Types of the operations that read quantized values."""
    return {
        reader.get_node().get_type_name()
        for operation in model.get_ordered_ops()
        if operation.get_type_name() == "FakeQuantize"
        for reader in operation.output(0).get_target_inputs()
    }


def test_convolutions_are_quantized_and_boxes_are_not(watched, openvino):
    kinds = quantized_kinds(openvino.Core().read_model(watched[0] / "int8.xml"))
    assert {"Convolution", "ConvolutionBackpropData"} <= kinds
    assert not kinds & {"MatMul", "ROIAlign", "MVN", "Exp"}


def test_layers_on_the_finest_maps_are_not_quantized(watched, openvino):
    model = openvino.Core().read_model(watched[0] / "int8.xml")
    convolutions = [
        operation
        for operation in model.get_ordered_ops()
        if operation.get_type_name() in ("Convolution", "GroupConvolution")
    ]
    for operation in convolutions:
        is_quantized = operation.input_value(0).get_node().get_type_name() == "FakeQuantize"
        assert is_quantized == (operation.input_value(0).get_shape()[2] <= SIDE / 4)
    assert len({operation.input_value(0).get_shape()[2] for operation in convolutions}) > 4


def test_int8_detections_are_close_to_float32(watched, exported):
    inputs = network_input(square_frames(BATCH), exported.config)
    files = watched[0] / "int8.xml", exported.path
    found, expected = (outputs_of(file, *inputs) for file in files)
    for name in OUTPUTS:  # of random weights, which are worse to quantize than trained ones
        difference = (found[name] - expected[name]).abs().mean()
        assert 0 < difference < 0.5 * expected[name].std(), name


def test_calibration_frames_are_spread_over_all_sources(tmp_path):
    """Images may differ in size, unlike the frames of a video."""
    for folder, count in (("a", 10), ("b", 3)):
        (tmp_path / folder).mkdir()
        for index in range(count):
            image = np.full((8, 8 + index, 3), 20 * index, np.uint8)
            cv2.imwrite(str(tmp_path / folder / f"{index}.png"), image)
    with VideoWriter(tmp_path / "c.mp4", 5) as writer:
        for index in range(4):
            writer.write(draw_frame(index))
    sources = [str(tmp_path / name) for name in ("a", "b", "c.mp4")]
    found = list(calibration_frames(sources, CLASSES, 6))
    assert [int(frame[0, 0, 0]) for frame in found[:4]] == [0, 100, 0, 40]
    assert [frame.shape for frame in found[4:]] == [draw_frame(0).shape] * 2


def test_a_calibration_set_needs_its_images():
    with pytest.raises(InputError, match=r"a\.json: .*folder"):
        list(calibration_frames(["a.json"], CLASSES))


def test_frames_that_do_not_fit_the_size_are_refused(openvino, tmp_path):
    model, config = tiny_model()
    with pytest.raises(InputError, match=r"512x512.* 64x64"):
        export_openvino(model, config, tmp_path / "a.xml", 64, 64, calibration=square_frames(1))
    assert list(tmp_path.iterdir()) == []


# Refusals


def copy_of(exported, folder):
    for suffix in (".xml", ".bin"):
        source = exported.path.with_suffix(suffix)
        (folder / f"copy{suffix}").write_bytes(source.read_bytes())
    return folder / "copy.xml"


@pytest.mark.parametrize("fault", ["missing", "empty", "text", "truncated", "another graph"])
def test_a_graph_that_cannot_be_read_is_refused_by_name(exported, fault, tmp_path):
    path = copy_of(exported, tmp_path)
    text = path.read_text()
    if fault == "missing":
        path.unlink()
    else:
        path.write_text(
            {
                "empty": "",
                "text": "no model",
                "truncated": text[: len(text) // 2],
                "another graph": text.replace('type="Convolution"', 'type="Convolutoin"'),
            }[fault]
        )
    with pytest.raises(InputError, match=r"OpenVINO model .*copy\.xml: ") as refusal:
        Detector.from_pretrained(path)
    assert len(str(refusal.value)) < 500 and "\n" not in str(refusal.value)


@pytest.mark.parametrize("fault", ["missing", "truncated", "longer", "flipped"])
def test_weights_of_another_graph_are_refused(exported, fault, tmp_path):
    path = copy_of(exported, tmp_path)
    weights, data = path.with_suffix(".bin"), bytearray(path.with_suffix(".bin").read_bytes())
    data[len(data) // 2] ^= 255
    changed = {"truncated": data[: len(data) // 2], "longer": data + b"\0", "flipped": data}
    weights.unlink() if fault == "missing" else weights.write_bytes(changed[fault])
    with pytest.raises(InputError, match=r"OpenVINO model .*copy\.(xml|bin): ") as refusal:
        Detector.from_pretrained(path)
    assert "\n" not in str(refusal.value)


def test_a_model_of_another_project_is_refused(openvino, tmp_path):
    opset = openvino.opset13
    x = opset.parameter([1], name="x")
    model = openvino.Model([opset.relu(x)], [x], "relu")
    openvino.save_model(model, tmp_path / "relu.xml")
    message = r"relu\.xml: not written by queryinst_vis, export it with 'queryinst-vis export-open"
    with pytest.raises(InputError, match=message):
        Detector.from_pretrained(tmp_path / "relu.xml")


def test_the_command_ends_with_one_line_and_status_2(openvino, tmp_path, capsys):
    (tmp_path / "a.xml").write_text("<net>")
    (tmp_path / "a.bin").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "a.png"), draw_frame(0))
    words = ["detect", tmp_path / "a.png", "--weights", tmp_path / "a.xml", "--out", tmp_path / "o"]
    assert cli.main([str(word) for word in words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    words = ["export-openvino", "shapes", "--size", "64x64", "--output", tmp_path / "b.xml"]
    assert cli.main([str(word) for word in [*words, "--frames", 5]]) == 2
    assert "--frames: only used with --int8" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["openvino", "nncf"])
def test_missing_packages_name_the_extra_to_install(missing, monkeypatch, tmp_path):
    if missing == "nncf":
        pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setitem(sys.modules, missing, None)
    message = rf"needs the packages {missing}: pip install 'queryinst-vis\[openvino\]'"
    with pytest.raises(InputError, match=message):
        export_openvino(*tiny_model(), tmp_path / "a.xml", 64, 64, calibration=square_frames(1))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_refused(openvino, tmp_path):
    with pytest.raises(InputError, match=r"a\.onnx: .*\.xml"):
        export_openvino(*tiny_model(), tmp_path / "a.onnx", 64, 64)


def test_a_failed_openvino_export_leaves_no_file(openvino, monkeypatch, tmp_path):
    def fail(*arguments, **options):
        raise RuntimeError("no such operator\nand much more")

    monkeypatch.setattr(torch.export, "export", fail)
    message = "cannot represent this model with the backbone lcnet_035: no such operator$"
    with pytest.raises(InputError, match=message):
        export_openvino(*tiny_model(), tmp_path / "a.xml", 64, 64)
    assert list(tmp_path.iterdir()) == []
