"""The command line: help, exit statuses, messages, and output files."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from queryinst_vis import cli
from queryinst_vis.errors import InputError
from queryinst_vis.masks import to_rle

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "data" / "ytvis_eval"
COMMANDS = {
    "batch": "tools/batch.py",
    "detect": "tools/detect.py",
    "doctor": "tools/doctor.py",
    "track": "demo/track_video.py",
    "train": "tools/train.py",
    "finetune": "tools/finetune.py",
    "test-video": "tools/test_video.py",
    "test-image": "tools/test_image.py",
    "eval-video": "tools/eval_video.py",
    "eval-image": "tools/eval_image.py",
    "eval-cityscapes": "tools/eval_cityscapes.py",
    "eval-tracking": "tools/eval_tracking.py",
    "report": "tools/report.py",
    "review": "tools/review.py",
    "diagnose": "tools/diagnose.py",
    "compare": "tools/compare.py",
    "check-submission": "tools/check_submission.py",
    "zip": "tools/zip_results.py",
    "convert-results": "tools/convert_results.py",
    "data": "tools/data.py",
    "convert-dataset": "tools/convert_dataset.py",
    "convert-checkpoint": "tools/convert_checkpoint.py",
    "weights": "tools/weights.py",
    "average-weights": "tools/average_weights.py",
    "transfer-weights": "tools/transfer_weights.py",
    "export-onnx": "tools/export_onnx.py",
    "export-openvino": "tools/export_openvino.py",
    "benchmark": "tools/benchmark.py",
    "plot-mask-features": "tools/plot_mask_features.py",
    "plot-speed": "tools/plot_speed.py",
}


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def box_set(tmp_path):
    """A COCO file of one image with one square, and a perfect result."""
    square = {"bbox": [2, 3, 4, 5], "segmentation": [[2, 3, 6, 3, 6, 8, 2, 8]]}
    annotation = {"id": 1, "image_id": 7, "category_id": 3, "area": 20, "iscrowd": 0, **square}
    gt = {
        "images": [{"id": 7, "file_name": "7.png", "height": 16, "width": 16}],
        "annotations": [annotation],
        "categories": [{"id": 3, "name": "square"}],
    }
    rle = to_rle(square["segmentation"], 16, 16, "test")
    result = {"image_id": 7, "category_id": 3, "score": 0.9, "bbox": square["bbox"]}
    result["segmentation"] = rle
    (tmp_path / "truth.json").write_text(json.dumps(gt))
    (tmp_path / "results.json").write_text(json.dumps([result]))
    return tmp_path


# Help


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as done:
        run("--help")
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize(
    "words",
    [
        ["track"],
        ["train"],
        ["test-video"],
        ["test-image"],
        ["eval-video"],
        ["eval-image"],
        ["eval-cityscapes"],
        ["eval-tracking"],
        ["report"],
        ["review"],
        ["diagnose"],
        ["compare"],
        ["check-submission"],
        ["zip"],
        ["convert-results"],
        ["data", "validate"],
        ["data", "stats"],
        ["data", "split"],
        ["data", "browse"],
        ["data", "merge"],
        ["data", "filter"],
        ["data", "remap"],
        ["data", "fill-masks"],
        ["convert-dataset", "mots"],
        ["convert-dataset", "cityscapes"],
        ["convert-dataset", "synthetic"],
        ["convert-checkpoint"],
        *([each] for each in ("weights", "average-weights", "transfer-weights")),
        ["export-onnx"],
        ["export-openvino"],
        ["benchmark"],
        ["plot-mask-features"],
        ["plot-speed"],
    ],
    ids=" ".join,
)
def test_help_of_each_command_has_examples_that_parse(words, capsys):
    with pytest.raises(SystemExit) as done:
        run(*words, "--help")
    assert done.value.code == 0
    text = capsys.readouterr().out
    examples = [line.split() for line in text.splitlines() if line.startswith("  queryinst-vis ")]
    assert examples
    for example in examples:  # what help recommends must be a command line that is understood
        assert example[1 : 1 + len(words)] == words
        cli.parse_arguments(example[1:])


def test_help_of_synthetic_names_every_preset(capsys):
    from queryinst_vis.data.synthetic import PRESETS

    with pytest.raises(SystemExit):
        run("convert-dataset", "synthetic", "--help")
    text = capsys.readouterr().out
    assert all(f"{name} (" in text for name in PRESETS)


# Arguments


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND; see 'queryinst-vis --help'"),
        (["trak"], "invalid choice: 'trak'"),
        (["track"], "required: SOURCE; see 'queryinst-vis track --help'"),
        (["eval-video", "a.json", "b.json", "c.json"], "unrecognized arguments: c.json"),
        (["track", "a.mp4", "--wieghts", "people"], "unrecognized arguments: --wieghts people"),
        (["track", "a.mp4", "--str", "2"], "unrecognized arguments: --str 2"),
        (["track", "a.mp4", "--stride", "0"], "--stride: expected a positive integer"),
        (["track", "a.mp4", "--stride", "x"], "--stride: expected a positive integer"),
        (["track", "a.mp4", "--score-threshold", "2"], "expected a number between 0 and 1"),
        (["track", "a.mp4", "--score-threshold", "x"], "expected a number between 0 and 1"),
        (["train", "config.yaml"], "required: --work-dir"),
        (["test-image", "config.yaml", "people"], "required: --out"),
        (["convert-dataset"], "required: DATASET"),
        (["convert-dataset", "kitti"], "invalid choice: 'kitti'"),
        (["convert-dataset", "synthetic", "dst", "--seed", "x"], "non-negative integer, got 'x'"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(words, message, cli_error):
    assert message in cli_error(*words)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "c.yaml", "a=1", "b=2", "--work-dir", "w"],
        ["train", "c.yaml", "--work-dir", "w", "a=1", "b=2"],
        ["train", "c.yaml", "a=1", "--work-dir", "w", "b=2", "--resume"],
        ["train", "--work-dir", "w", "--resume", "c.yaml", "a=1", "b=2"],
    ],
)
def test_overrides_may_be_placed_anywhere_after_the_config(words):
    arguments = cli.parse_arguments(words)
    assert (arguments.config, arguments.overrides) == ("c.yaml", ["a=1", "b=2"])


# Input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["track", "none.mp4"], "none.mp4"),
        (["track", "none.mp4", "--weights", "none.safetensors"], "none"),
        (["train", "none.yaml", "--work-dir", "w"], "none.yaml: no such file"),
        (["test-video", "none.yaml", "people", "--out", "o.json"], "none.yaml: no such file"),
        (["test-image", "none.yaml", "people", "--out", "o.json"], "none.yaml: no such file"),
        (["eval-video", "none.json", "none.json"], "none.json: no such file"),
        (["eval-image", "none.json", "none.json"], "none.json: no such file"),
        (["convert-dataset", "mots", "none", "o.json"], "none"),
        (["convert-dataset", "synthetic", "o", "--preset", "trian"], "train, bench, demo"),
        (["convert-dataset", "synthetic", "o", "--seed", "-1"], "non-negative integer, got '-1'"),
        (["convert-checkpoint", "none.pth", "o.safetensors"], "none.pth: no such file"),
    ],
)
def test_missing_input_leaves_no_output(words, message, cli_error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in cli_error(*words)
    assert files_below(tmp_path) == set()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_step=3", "unknown key 'train.max_step'; did you mean 'train.max_steps'?"),
        ("train.max_steps=many", "wrong value for 'train.max_steps'"),
        ("train.max_steps", "expected key=value"),
    ],
)
def test_a_bad_override_is_refused_before_anything_is_written(
    override, message, cli_error, tmp_path
):
    config = ROOT / "configs" / "coco" / "queryinst_r50_100q_1x.yaml"
    work_dir = tmp_path / "work"
    assert message in cli_error("train", config, override, "--work-dir", work_dir)
    assert not work_dir.exists()


def test_a_file_that_is_no_weights_file_is_refused(cli_error, tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    config = ROOT / "configs" / "coco" / "queryinst_r50_100q_1x.yaml"
    out = tmp_path / "results.json"
    assert "broken.safetensors" in cli_error("test-image", config, broken, "--out", out)
    assert not out.exists()


def test_results_of_another_dataset_are_refused_and_no_scores_are_written(cli_error, tmp_path):
    gt, scores = GOLDEN / "small_gt.json", tmp_path / "scores.json"
    results = json.loads((GOLDEN / "small_results.json").read_text())
    results[0]["video_id"] = 4711
    (tmp_path / "results.json").write_text(json.dumps(results))
    message = cli_error("eval-video", gt, tmp_path / "results.json", "--json", scores)
    assert "4711" in message
    assert not scores.exists()


def test_a_non_empty_output_folder_is_not_modified(cli_error, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert "not an empty folder" in cli_error("convert-dataset", "synthetic", tmp_path)
    assert files_below(tmp_path) == {"mine.txt"}


# Internal errors and interrupts


@pytest.fixture
def broken_command(monkeypatch):
    """Make ``eval-video`` raise an error of choice."""

    def break_with(error: BaseException) -> list[str]:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("queryinst_vis.evaluation.evaluate_youtube_vis", fail)
        return ["eval-video", "truth.json", "results.json"]

    return break_with


def test_an_internal_error_ends_in_one_line_and_status_1(broken_command, capsys):
    assert run(*broken_command(KeyError("lost\nkey"))) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "unexpected KeyError" in error
    assert "--debug" in error


def test_debug_shows_the_traceback_of_a_bug_and_of_bad_input(broken_command, capsys):
    assert run(*broken_command(KeyError("lost key")), "--debug") == 1
    assert "Traceback" in capsys.readouterr().err
    assert run(*broken_command(InputError("bad file")), "--debug") == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.endswith("queryinst-vis: error: bad file\n")


def test_ctrl_c_is_status_130(broken_command, capsys):
    assert run(*broken_command(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "queryinst-vis: error: interrupted\n"


# End to end


@pytest.mark.parametrize("case", ["small", "medium"])
def test_eval_video_prints_and_writes_the_official_numbers(case, tmp_path, capsys):
    expected = json.loads((GOLDEN / f"{case}_expected.json").read_text())
    out = tmp_path / "scores" / "scores.json"
    gt, results = GOLDEN / f"{case}_gt.json", GOLDEN / f"{case}_results.json"
    assert run("eval-video", gt, results, "--json", out) == 0
    scores = json.loads(out.read_text())
    assert scores["AP"] == pytest.approx(expected["AP"], abs=1e-12)
    assert scores["AR10"] == pytest.approx(expected["AR10"], abs=1e-12)
    assert f"{100 * expected['AP']:.1f}" in capsys.readouterr().out


def test_eval_image_of_a_perfect_result_scores_1(box_set, capsys):
    out = box_set / "scores.json"
    gt, results = box_set / "truth.json", box_set / "results.json"
    assert run("eval-image", gt, results, "--json", out) == 0
    scores = json.loads(out.read_text())
    assert {kind: scores[kind]["AP"] for kind in ("bbox", "segm")} == pytest.approx(
        {"bbox": 1.0, "segm": 1.0}
    )
    assert "100.0" in capsys.readouterr().out


def test_convert_dataset_synthetic_writes_a_readable_set(tmp_path, monkeypatch, capsys):
    from queryinst_vis.data import synthetic

    tiny = synthetic.SyntheticSettings(videos=2, frames=3, width=64, height=48, max_objects=3)
    monkeypatch.setitem(synthetic.PRESETS, "tiny", tiny)
    words = ["convert-dataset", "synthetic", tmp_path / "set", "--preset", "tiny", "--mp4"]
    assert run(*words) == 0
    assert "2 of 3 frames" in capsys.readouterr().out
    written = json.loads((tmp_path / "set" / "youtube_vis.json").read_text())
    assert [video["length"] for video in written["videos"]] == [3, 3]
    assert files_below(tmp_path / "set" / "videos") == {"0000.mp4", "0001.mp4"}
    for name in written["videos"][0]["file_names"]:
        assert (tmp_path / "set" / "frames" / name).is_file()


def test_convert_dataset_mots_writes_a_readable_set(tmp_path, capsys):
    source, target = tmp_path / "mots", tmp_path / "out" / "mots.json"
    for folder in ("images", "instances"):
        (source / folder / "0001").mkdir(parents=True)
    for frame in (1, 2):
        ids = np.zeros((24, 32), dtype=np.uint16)
        ids[4:20, 5 * frame : 5 * frame + 8] = 2001
        cv2.imwrite(str(source / "instances" / "0001" / f"{frame:06d}.png"), ids)
        image = np.full((24, 32, 3), 90, dtype=np.uint8)
        cv2.imwrite(str(source / "images" / "0001" / f"{frame:06d}.jpg"), image)
    assert run("convert-dataset", "mots", source, target) == 0
    written = json.loads(target.read_text())
    assert [video["length"] for video in written["videos"]] == [2]
    assert len(written["annotations"]) == 1
    assert str(target) in capsys.readouterr().out


# Scripts of a fresh clone, without installation


@pytest.mark.parametrize(("command", "script"), COMMANDS.items())
def test_every_command_has_its_script(command, script, monkeypatch):
    calls = []
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.setattr(cli, "main", lambda words: calls.append(words) or 0)
    monkeypatch.delitem(sys.modules, "_run", raising=False)
    monkeypatch.setattr(sys, "argv", [script, "--some", "words"])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert (done.value.code, calls) == (0, [[command, "--some", "words"]])


def test_every_script_runs_a_command():
    scripts = {str(path.relative_to(ROOT)) for path in (ROOT / "tools").glob("[!_]*.py")}
    assert scripts | {"demo/track_video.py"} == set(COMMANDS.values())


def test_a_script_runs_from_anywhere_without_installation(tmp_path):
    words = [GOLDEN / "small_gt.json", GOLDEN / "small_results.json", "--json", "scores.json"]
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "eval_video.py", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "AP" in done.stdout
    assert (tmp_path / "scores.json").is_file()


def test_a_script_refuses_bad_input_with_one_line_and_status_2(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "demo" / "track_video.py", "none.mp4"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("queryinst-vis: error: ")
    assert "none.mp4" in done.stderr
    assert done.stderr.count("\n") == 1
