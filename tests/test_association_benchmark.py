"""The benchmark of association rules: cached detections give the results of test-video."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.data.convert import convert_to_mots
from queryinst_vis.errors import run_script
from queryinst_vis.evaluation.tracking_metrics import evaluate_tracking
from queryinst_vis.models.build import build_model
from queryinst_vis.structures import Detections
from queryinst_vis.tracking import RULES
from queryinst_vis.training import evaluate as evaluation
from tests.tiny import tiny_config, write_videos

ROOT = Path(__file__).parents[1]
FOLDER = str(ROOT / "benchmarks")
sys.path.append(FOLDER)
association = importlib.import_module("association")
inputs = importlib.import_module("association_inputs")
sys.path.remove(FOLDER)

THRESHOLDS = (0.0, 0.0101)
"""All detections of the untrained model, and some."""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Untrained weights, a set of two videos, and a cache without score threshold."""
    monkeypatch.setattr(inputs, "LOWEST_SCORE", 0.0)
    torch.manual_seed(0)
    data = write_videos(tmp_path / "videos")
    config = tiny_config(val=data)
    weights = tmp_path / "tiny.safetensors"
    save_weights(weights, build_model(config).eval(), config)
    test_set = inputs.TestSet("tiny", Path(data.annotations), Path(data.images))
    return str(weights), config, test_set, tmp_path / "cache"


@pytest.mark.parametrize("rule", RULES)
def test_results_are_those_of_test_video(tiny, tmp_path, rule):
    weights, config, test_set, cache = tiny
    config.tracking.rule = rule
    path = inputs.detect_once(weights, config, test_set, cache)
    numbers = []
    for threshold in THRESHOLDS:
        inference = replace(config.inference, score_threshold=threshold)
        evaluation.test_video(
            replace(config, inference=inference), weights, tmp_path / "results.json", devices=1
        )
        expected = json.loads((tmp_path / "results.json").read_text())
        run = association.Run(weights, test_set, config, threshold, "", path)
        found = association.track(run)
        assert found == expected
        for row in association.track_and_evaluate(replace(run, track_thresholds=(0.0, 0.0102))):
            tracking = evaluate_tracking(
                test_set.annotations, expected, threshold=row["track_threshold"]
            )
            assert tracking["detection_averaged"].items() <= row["metrics"].items()
        numbers.append(len(str(found)))
    assert numbers[0] > numbers[1] > 2, "the threshold decides, and leaves something"


@pytest.mark.parametrize("overlap", ["boxes", "masks"])
def test_duplicates_are_suppressed_as_by_test_video(tiny, tmp_path, overlap):
    """One cache serves every suppression."""
    weights, config, test_set, cache = tiny
    path = inputs.detect_once(weights, config, test_set, cache)
    lengths = {}
    for threshold in (None, 0.3):
        inference = replace(
            config.inference, score_threshold=0.0, nms_threshold=threshold, nms_overlap=overlap
        )
        suppressing = replace(config, inference=inference)
        assert inputs.detect_once(weights, suppressing, test_set, cache) == path
        evaluation.test_video(suppressing, weights, tmp_path / "results.json", devices=1)
        expected = json.loads((tmp_path / "results.json").read_text())
        run = association.Run(weights, test_set, suppressing, 0.0, "", path)
        assert association.track(run) == expected
        frames = inputs.load_detections(path, None, inference)
        lengths[threshold] = sum(len(found) for video in frames.values() for found in video)
    assert lengths[0.3] < lengths[None]


def test_detections_are_computed_once_for_each_set_and_setting(tiny, monkeypatch):
    weights, config, test_set, cache = tiny
    path = inputs.detect_once(weights, config, test_set, cache)
    changed = replace(config, input=replace(config.input, test_short=32))
    assert inputs.detect_once(weights, changed, test_set, cache) != path
    monkeypatch.setattr(inputs, "load_model", None)  # the cache must be used, not the detector
    by_rule = replace(config, tracking=replace(config.tracking, rule="query"))
    assert inputs.detect_once(weights, by_rule, test_set, cache) == path


def test_cached_masks_follow_their_detections(tiny):
    weights, config, test_set, cache = tiny
    path = inputs.detect_once(weights, config, test_set, cache)
    for frames in inputs.load_detections(path, None, config.inference).values():
        for cached in frames:
            some = cached[torch.tensor([3, 0])]
            plain = Detections(some.boxes, some.scores, some.labels, some.image_size)
            assert some.rles() == replace(plain, mask_logits=some.mask_logits).rles()


def test_a_rule_without_detections_scores_zero(tiny):
    weights, config, test_set, cache = tiny
    path = inputs.detect_once(weights, config, test_set, cache)
    run = association.Run(weights, test_set, config, 1.0, "", path)
    [row] = association.track_and_evaluate(run)
    assert (row["metrics"]["IDF1"], row["metrics"]["objects"]) == (0.0, None)


# Settings and tables


def test_every_rule_has_a_grid_of_different_settings():
    for rule in RULES:
        found = association.configs(tiny_config(), rule, [])
        assert all(config.tracking.rule == rule for config in found.values())
        assert len({str(config) for config in found.values()}) == len(found) >= 1


def test_user_settings_apply_to_the_whole_grid():
    found = association.configs(tiny_config(), "bisoftmax", ["tracking.max_jump=2"])
    assert {config.tracking.max_jump for config in found.values()} == {2.0}
    assert len(found) == 1


def row(setting, idf1, hota, ap, idsw=1, name="one", ratio=1.0):
    metrics = dict.fromkeys(association.COLUMNS, 0)
    metrics |= {"IDF1": idf1, "HOTA": hota, "AP": ap, "IDSW": idsw}
    metrics["identities_per_object"] = ratio
    keys = {"rule": "query", "set": name, "setting": setting}
    return {**keys, "threshold": 0.1, "track_threshold": 0.0, "metrics": metrics}


def test_the_best_setting_is_reported_per_metric():
    rows = [row("a", 0.1, 0.9, 0.2), row("b", 0.5, 0.3, 0.7), row("c", 0.4, 0.4, 0.7)]
    best = {choices: found["setting"] for choices, found in association.best_rows(rows)}
    assert best == {"IDF1, AP": "b", "HOTA": "a"}


def test_sets_are_averaged_setting_by_setting():
    rows = [
        row("a", 0.2, 0.5, 0.1, idsw=3, name="one", ratio=2.0),
        row("b", 0.9, 0.5, 0.1, name="one"),
        row("a", 0.4, 0.7, 0.3, idsw=4, name="two", ratio=None),
        row("b", 0.1, 0.5, 0.1, name="two"),
    ]
    pooled = {found["setting"]: found["metrics"] for found in association.pool_sets(rows)}
    assert pooled["a"]["IDF1"] == pytest.approx(0.3)
    assert (pooled["a"]["IDSW"], pooled["a"]["identities_per_object"]) == (7, 2.0)
    assert pooled["b"]["IDF1"] == pytest.approx(0.5)


# The command line


def program(*words, **environment):
    """Run the script; its exit status, standard output and standard error."""
    found = subprocess.run(
        [sys.executable, f"{FOLDER}/association.py", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return found.returncode, found.stdout, found.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rules", "magic"], "tracking.rule: unknown rule 'magic'; choose from: masktrack,"),
        (["--sets", "moon"], "--sets: unknown set 'moon'; choose from: mots_train, mots_clips,"),
        (["--thresholds", "0.01"], "--thresholds: must be at least 0.05"),
        (["--weights", "nobody"], "weights 'nobody': neither a file nor the name"),
        (["--set", "tracking.speed=1"], "unknown key 'tracking.speed'"),
        (["--sets", "davis"], "set davis: QUERYINST_VIS_DATA must be the folder that contains"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(monkeypatch, capsys, tmp_path, words, message):
    monkeypatch.delenv("QUERYINST_VIS_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["association.py", "--cache", str(tmp_path), *words])
    with pytest.raises(SystemExit) as end:
        run_script(association.main)
    err = capsys.readouterr().err
    assert end.value.code == 2 and message in err and err.count("\n") == 1


def test_the_tables_and_the_rows_of_a_set(tmp_path):
    data = write_videos(tmp_path / "videos")
    annotations = Path(data.annotations)
    content = json.loads(annotations.read_text())
    content["categories"] = [{"id": 7, "name": "car"}, {"id": 9, "name": "person"}]
    annotations.write_text(json.dumps(content))
    convert_to_mots(annotations, tmp_path / "data" / "davis_people", images=data.images)
    weights = tmp_path / "tiny.safetensors"
    config = tiny_config()
    config.model.classes = ["car", "person"]
    torch.manual_seed(0)
    model = build_model(config).eval()
    with torch.no_grad():
        model.stages[-1].class_predictor.bias += 4  # scores above the threshold of the cache
    save_weights(weights, model, config)
    out = tmp_path / "new" / "rows.json"
    words = ["--weights", weights, "--sets", "davis", "--rules", "query", "hungarian"]
    words += ["--thresholds", "0.05", "--cache", tmp_path / "cache", "--out", out]
    status, printed, err = program(*words, QUERYINST_VIS_DATA=str(tmp_path))
    assert status == 0, err
    rows = json.loads(out.read_text())
    grids = [association.configs(config, rule, []) for rule in ("query", "hungarian")]
    assert len(rows) == sum(map(len, grids))
    assert {(row["set"], row["threshold"]) for row in rows} == {("davis", 0.05)}
    assert all(row["metrics"]["objects"] == 4 for row in rows)
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines()]
    assert {line[0] for line in lines if len(line) > 2} == {"query", "hungarian"}
