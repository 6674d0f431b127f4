"""``data validate``: the command, and its agreement with the evaluation."""

import json
import random

import pytest
from data_support import rectangle, uncompressed
from validate_support import car, check, set_mask, sound, spoil_somewhere

from queryinst_vis import cli
from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.formats.findings import ERROR, NOTE, WARNING
from tests.eval_faults import GROUND_TRUTH_FAULTS
from tests.eval_faults import valid as evaluation_files

# Agreement with the evaluation


@pytest.mark.parametrize("case", sorted(set(GROUND_TRUTH_FAULTS) - {"no videos", "image data set"}))
def test_whatever_the_evaluation_refuses_is_an_error(case, tmp_path):
    content, _ = evaluation_files()
    GROUND_TRUTH_FAULTS[case][0](content)
    severities = {finding.severity for finding in check(content, tmp_path)}
    assert (ERROR if "annotations" not in case and "public" not in case else NOTE) in severities


def test_a_mutated_file_without_errors_can_be_evaluated(tmp_path):
    chance = random.Random(0)
    results = [{"video_id": 12, "category_id": 9, "score": 0.5, "segmentations": [None] * 4}]
    evaluated = refused = 0
    for _ in range(400):
        content = sound()
        content["annotations"][0]["segmentations"][1] = uncompressed(rectangle(15, 5, 35, 20))
        spoil_somewhere(content, chance)
        found = {finding.kind: finding.severity for finding in check(content, tmp_path)}
        if ERROR in found.values():
            refused += 1
        elif (
            found.keys().isdisjoint({"no annotations", "boxes only"})
            and content["videos"]
            and content["categories"]
        ):
            evaluate_youtube_vis(content, results)
            evaluated += 1
    assert min(evaluated, refused) > 20


# The command


def test_the_command_prints_writes_and_exits_2_on_errors(tmp_path, capsys):
    content = sound()
    set_mask(content, "mask")
    car(content)["bboxes"][1] = None
    path, out = tmp_path / "set.json", tmp_path / "findings.json"
    path.write_text(json.dumps(content))
    assert cli.main(["data", "validate", str(path), "--json", str(out)]) == 2
    printed = capsys.readouterr()
    assert "unreadable mask" in printed.out
    assert printed.err == f"queryinst-vis: error: {path}: 1 error, 1 warning\n"
    written = json.loads(out.read_text())
    assert {key: written[key] for key in (ERROR, WARNING, NOTE)} == {
        ERROR: 1,
        WARNING: 1,
        NOTE: 0,
    }
    first = next(entry for entry in written["findings"] if entry["severity"] == ERROR)
    assert first == {
        "file": str(path),
        "severity": "error",
        "kind": "unreadable mask",
        "video": 12,
        "name": "v12",
        "annotation": 31,
        "frame": 2,
        "message": "is 'mask', neither polygons nor an object with `size` and `counts`",
    }


def test_warnings_do_not_change_the_exit_status(tmp_path, capsys):
    content = sound()
    car(content)["bboxes"][1] = None
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    assert cli.main(["data", "validate", str(path)]) == 0
    assert f"{path}: 1 warning" in capsys.readouterr().out


def test_the_table_shows_the_first_places_and_how_many_more(tmp_path, capsys):
    content = sound()
    for annotation in content["annotations"]:
        annotation["bboxes"] = [[1, 2, 3]] * 4
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    assert cli.main(["data", "validate", str(path)]) == 2
    printed = capsys.readouterr().out
    assert "frame 2" in printed
    assert "frame 3" not in printed
    assert "... and 5 more" in printed


def test_a_file_that_is_no_json_ends_in_one_line(tmp_path, capsys):
    path = tmp_path / "set.json"
    path.write_text("{")
    assert cli.main(["data", "validate", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
