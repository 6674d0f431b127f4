"""The benchmark: what it reports, and that its numbers are consistent.

Speed itself depends on the machine and is not tested.
"""

import json
from io import StringIO

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from queryinst_vis import cli
from queryinst_vis.benchmark import machine
from queryinst_vis.benchmark.flops import count_flops
from queryinst_vis.benchmark.inputs import endless_batches, save_random_weights, weights_hash
from queryinst_vis.benchmark.report import print_report
from queryinst_vis.benchmark.timing import run_timed, spread_of
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.config import config_to_dict
from queryinst_vis.models.build import build_model
from queryinst_vis.video.source import open_source
from tests.clips import index_of, write_video
from tests.tiny import HEIGHT, WIDTH, tiny_config

CPU = torch.device("cpu")
STAGES = ["backbone_fpn", "model", "model_postprocess", "end_to_end"]


def write_config(folder, track=True):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config_to_dict(tiny_config(track=track))))
    return path


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """One run over a rendered clip, from the command line to the JSON file."""
    folder = tmp_path_factory.mktemp("benchmark")
    out = folder / "new" / "speed.json"
    words = [
        "benchmark",
        write_config(folder),
        "model.num_queries=4",
        "--size",
        f"{WIDTH}x{HEIGHT}",
        "--frames",
        "4",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "PEAK_SECONDS", 0.0)
        patch.setattr(machine, "PEAK_CALLS", 1)
        status = cli.main([*map(str, words), "--batch", "2", "--threads", "1", "--json", str(out)])
    assert status == 0
    return json.loads(out.read_text())


def test_the_conditions_of_the_measurement_are_reported(result):
    assert result["settings"] == {
        "overrides": ["model.num_queries=4"],
        "seed": 0,
        "frames": 6,  # at least one batch before each of the three runs from end to end
        "batch": 2,
        "frame_height": HEIGHT,
        "frame_width": WIDTH,
        "input_height": 64,
        "input_width": 96,
        "instances_per_frame": 4,  # every query of the model
    }
    found = result["machine"]
    assert (found["device"], found["threads"], found["dtype"]) == ("cpu", 1, "float32")
    assert found["versions"].keys() == {"torch", "torchvision", "timm"}
    assert all(found[key] for key in ("device_name", "cores", "system", "commit", "command"))
    assert all(len(result["fingerprints"][key]) == 12 for key in ("config", "weights"))


def test_every_stage_has_its_times_and_their_spread(result):
    rows = result["rows"]
    assert list(rows) == STAGES
    assert [len(row["seconds_per_frame"]) for row in rows.values()] == [3, 3, 3, 3]
    for row in rows.values():
        assert row["median_ms"] == pytest.approx(1000 * np.median(row["seconds_per_frame"]))
        assert 0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"]
        assert row["frames_per_s"] == pytest.approx(1000 / row["median_ms"])


def test_ratio_and_shares_follow_from_the_times(result):
    rows, peak = result["rows"], result["peak"]
    ratio = rows["end_to_end"]["median_ms"] / rows["model"]["median_ms"]
    assert result["end_to_end_over_model"] == pytest.approx(ratio)
    assert result["fps"] == rows["end_to_end"]["frames_per_s"]
    kernels = [peak["gemm_gflop_per_s"], peak["convolution_gflop_per_s"]]
    assert peak["gflop_per_s"] == max(max(kernel.values()) for kernel in kernels)
    for name in ("backbone_fpn", "model"):
        speed = rows[name]["gflop_per_frame"] / rows[name]["median_ms"] * 1000
        assert rows[name]["gflop_per_s"] == pytest.approx(speed)
        assert rows[name]["of_peak"] == pytest.approx(speed / peak["gflop_per_s"])
    assert 0 < rows["backbone_fpn"]["gflop_per_frame"] < rows["model"]["gflop_per_frame"]


def test_the_result_with_an_ap_is_a_point_of_the_speed_plot(result, tmp_path):
    from queryinst_vis.visualization.speed_plot import read_speed_point

    path = tmp_path / "speed.json"
    path.write_text(json.dumps({**result, "AP": 0.3}))
    point = read_speed_point(path)
    assert (point.name, point.fps) == ("tiny", result["fps"])


def test_the_benchmark_accepts_weights_and_a_video(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "PEAK_SECONDS", 0.0)
    monkeypatch.setattr(machine, "PEAK_CALLS", 1)
    config = tiny_config()
    save_weights(tmp_path / "tiny.safetensors", build_model(config), config)
    video = write_video(tmp_path / "clip.mp4", frames=2)  # shorter than what is timed
    words = ["benchmark", tmp_path / "tiny.safetensors", "--video", video, "--frames", "3"]
    words += ["inference.max_per_image=2", "--json", tmp_path / "speed.json"]
    assert cli.main([str(word) for word in words]) == 0
    result = json.loads((tmp_path / "speed.json").read_text())
    assert result["settings"]["overrides"] == ["inference.max_per_image=2"]
    assert result["settings"]["instances_per_frame"] == 2
    printed = capsys.readouterr().out
    for line in ("backbone + FPN", "end to end takes", "peak", "weights ", "commit "):
        assert line in printed


# Bad input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.yaml"], "config none.yaml: no such file"),
        (["nobody"], "weights 'nobody': neither a file nor the name"),
        (["tiny.yaml", "model.queries=3"], "unknown key 'model.queries'"),
        (["tiny.yaml", "--video", "none.mp4"], "video none.mp4: no such file"),
        (["tiny.yaml", "--size", "640"], "--size: expected WxH such as 256x160, got '640'"),
        (["tiny.yaml", "--size", "8x8"], "frames of 8x8 pixels"),
        (["tiny.yaml", "--size", "64x64", "--video", "a.mp4"], "--video: not allowed with"),
        (["tiny.yaml", "--frames", "0"], "--frames: expected a positive integer"),
        (["tiny.yaml", "--device", "abacus"], "device 'abacus' cannot be used here"),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(words, message, tmp_path, monkeypatch, capsys):
    write_config(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["benchmark", *words, "--json", "speed.json"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "speed.json").exists()


def test_a_tracking_rule_that_needs_a_track_head_is_refused_for_an_image_model(tmp_path, capsys):
    config = str(write_config(tmp_path, track=False))
    assert cli.main(["benchmark", config, "tracking.rule=masktrack"]) == 2
    assert "no track head" in capsys.readouterr().err


# Parts


def test_random_weights_follow_from_the_seed_and_keep_boxes_near_the_image(tmp_path):
    path = write_config(tmp_path)
    models = []
    for name, seed in [("a", 1), ("b", 1), ("c", 2)]:
        save_random_weights(tmp_path / f"{name}.safetensors", path, [], seed)
        models.append(load_model(tmp_path / f"{name}.safetensors", "cpu")[0])
    hashes = [weights_hash(tmp_path / f"{name}.safetensors") for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]
    with torch.inference_mode():
        boxes = models[0](torch.randn(1, 3, 64, 96), [(64, 96)]).stages[-1].boxes
    assert (boxes > -96).all() and (boxes < 2 * 96).all()


@pytest.mark.parametrize(
    ("median", "text"), [(0.01234, "0.0123"), (9.876, "9.88"), (98.76, "98.8"), (9876.5, "9876")]
)
def test_times_are_printed_with_three_digits(result, median, text):
    row = {**result["rows"]["end_to_end"], "median_ms": median}
    printed = StringIO()
    print_report({**result, "rows": {"end_to_end": row}}, Console(file=printed, width=200))
    [line] = [line for line in printed.getvalue().splitlines() if "│ end to end" in line]
    assert line.split("│")[2].strip() == text


def test_spread_is_the_median_with_10th_and_90th_percentile():
    spread = spread_of([index / 1000 for index in range(11)])
    assert spread == pytest.approx({"median_ms": 5, "p10_ms": 1, "p90_ms": 9})


def test_a_timed_call_returns_its_result():
    seconds, result = run_timed(lambda: "done", CPU)
    assert seconds > 0
    assert result == "done"


def test_batches_restart_at_the_end_of_the_video(tmp_path):
    batches = endless_batches(open_source(write_video(tmp_path / "clip.mp4", frames=5)), 2)
    indices = [[index_of(frame) for frame in next(batches)] for _ in range(4)]
    assert indices == [[0, 1], [2, 3], [4, 0], [1, 2]]


def test_flops_of_convolution_linear_and_attention_equal_the_formula():
    conv = torch.nn.Conv2d(6, 8, 3, padding=1, groups=2).requires_grad_(False)
    linear = torch.nn.Linear(7, 9).requires_grad_(False)
    attention = torch.nn.MultiheadAttention(32, 4, batch_first=True).eval().requires_grad_(False)
    queries = torch.randn(2, 5, 32)
    assert count_flops(lambda: conv(torch.randn(1, 6, 10, 11))) == 2 * 110 * 8 * 3 * 9
    assert count_flops(lambda: linear(torch.randn(4, 7))) == 2 * 4 * 7 * 9
    by_hand = 2 * 2 * (4 * 5 * 32 * 32 + 2 * 5 * 5 * 32)
    assert count_flops(lambda: attention(queries, queries, queries)) == by_hand
    linear.compile()
    assert count_flops(lambda: linear(torch.randn(4, 7))) == 2 * 4 * 7 * 9
    one_call = torch.inference_mode()(lambda: attention(queries, queries, queries))
    assert count_flops(one_call) == by_hand


@pytest.mark.parametrize(
    ("load", "dtype", "instructions", "doubts"),
    [
        (0.1, "float32", {}, []),
        (None, "float32", {}, []),
        (1.5, "float32", {}, ["machine is busy"]),
        (0.1, "bfloat16", {"avx512_bf16": False}, ["no instructions for bfloat16"]),
        (0.1, "bfloat16", {"amx_bf16": True}, []),
        (1.5, "float16", {}, ["machine is busy", "no instructions for float16"]),
    ],
)
def test_conditions_that_distort_a_benchmark_are_reported(
    load, dtype, instructions, doubts, monkeypatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    known = {"device": "cpu", "cores": 2, "load_average": load, "dtype": dtype}
    found = machine.reservations(known)
    assert len(found) == len(doubts)
    assert all(doubt in line for doubt, line in zip(doubts, found, strict=True))
