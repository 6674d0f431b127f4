"""``check-submission`` and ``zip``: what an evaluation server would refuse is found first."""

import copy
import json
import random
import zipfile

import pytest
from eval_cases import detection, ground_truth, rle
from validate_support import OF_RESULTS, spoil_somewhere

from queryinst_vis import cli
from queryinst_vis.data.tools.results_checks import MAX_PREDICTIONS, check_submission
from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.evaluation.average_precision import MAX_DETECTIONS
from queryinst_vis.formats.annotation_set import open_set
from queryinst_vis.formats.findings import ERROR
from tests.eval_faults import RESULT_FAULTS

MASKS = [rle(0, 0, 100, 100), None]


def public_set():
    """A set like public validation files: videos and classes, no annotations."""
    content = ground_truth([])
    content["videos"][0]["file_names"] = ["walk/0.jpg", "walk/1.jpg"]
    del content["annotations"]
    return content


def sound():
    return [detection(copy.deepcopy(MASKS))]


@pytest.fixture
def check(tmp_path):
    def write_and_check(results):
        (tmp_path / "set.json").write_text(json.dumps(public_set()))
        path = tmp_path / "results.json"
        path.write_text(json.dumps(results))
        return check_submission(path, open_set(tmp_path / "set.json"))

    return write_and_check


def test_valid_results_for_a_public_set_have_no_findings(check):
    assert check(sound()) == []


def other_mask():
    return [rle(0, 0, 50, 60), None]


FAULTS = {
    # kind: (results, place, message)
    "missing list": ({}, "", "must be a list"),
    "broken entry": (
        [*sound(), {"score": 1}],
        "entry 1",
        "has no `video_id`, `category_id`, `segm",
    ),
    "unknown id": ([*sound(), detection(MASKS, video_id=9)], "entry 1", "video_id 9 is not in"),
    "score": ([*sound(), detection(other_mask(), score=True)], "entry 1", "finite number, is True"),
    "score range": ([detection(MASKS, score=87)], "entry 0", "`score` 87 is not between 0 and 1"),
    "list length": (
        [detection([*MASKS, None])],
        "entry 0, video 1 (walk)",
        "must have 2 entries, one per frame, has 3; is it one frame off?",
    ),
    "mask size": (
        [detection([{"size": [300, 400], "counts": MASKS[0]["counts"]}, None])],
        "entry 0, video 1 (walk), frame 0",
        "is 400x300 pixels, its frame 300x400; [height, width] is swapped",
    ),
    "counts as bytes": (
        [detection([{"size": [400, 300], "counts": "b'PPPo0'"}, None])],
        "entry 0, video 1 (walk), frame 0",
        "use .decode('ascii') before writing JSON",
    ),
    "empty mask": (
        [detection([MASKS[0], rle(0, 0, 0, 0)])],
        "entry 0, video 1 (walk), frame 1",
        "use null for frames without the object",
    ),
    "never visible": ([detection([None, None])], "entry 0, video 1 (walk)", "has no mask"),
    "not compressed": (
        [detection([[[1, 1, 50, 1, 50, 50]], None])],
        "entry 0, video 1 (walk), frame 0",
        "given as polygons; servers accept only compressed RLE",
    ),
    "repeated masks": (
        [*sound(), detection(MASKS, category_id=2)],
        "entry 1, video 1 (walk)",
        "1 of its 1 masks are identical to those of entry 0",
    ),
    "too many": (
        [detection([rle(0, 0, 9 + k, 9), None]) for k in range(MAX_PREDICTIONS + 1)],
        "video 1 (walk)",
        "101 predictions of class person; only the 100 with the highest scores",
    ),
    "nothing found": (
        [detection(MASKS, video_id=7)],
        "video 1 (walk)",
        "has no prediction",
    ),
}


@pytest.mark.parametrize(("kind", "case"), FAULTS.items(), ids=FAULTS)
def test_each_fault_is_reported_with_its_place(kind, case, check):
    results, place, message = case
    found = [str(finding) for finding in check(results) if finding.kind == kind]
    assert len(found) == 1
    assert found[0].startswith(f"{place}: " if place else "")
    assert message in found[0]


def test_every_kind_that_only_results_have_has_a_case():
    assert OF_RESULTS - set(FAULTS) == {"other files"}  # tested with zips below


def test_faults_do_not_hide_one_another(check):
    results = [
        detection(MASKS, video_id=9, score="high"),
        detection([None]),
        {},
        detection([None, {"size": [1, 1], "counts": "1"}]),
    ]
    kinds = [finding.kind for finding in check(results)]
    assert kinds == ["score", "broken entry", "unknown id", "list length", "mask size"]


@pytest.mark.parametrize("change", [c for c, _ in RESULT_FAULTS.values()], ids=list(RESULT_FAULTS))
def test_results_the_evaluation_refuses_have_an_error(change, check):
    results = sound()
    results[0].update(change)
    assert ERROR in {finding.severity for finding in check(results)}


def test_the_prediction_limit_equals_that_of_the_evaluation():
    assert MAX_DETECTIONS[-1] == MAX_PREDICTIONS


def test_mutated_results_without_errors_can_be_evaluated(check):
    chance = random.Random(0)
    gt = ground_truth([{"segmentations": MASKS}])
    evaluated = refused = 0
    for _ in range(300):
        results = [detection(copy.deepcopy(MASKS)), detection(other_mask(), category_id=2)]
        spoil_somewhere(results, chance)
        if ERROR in {finding.severity for finding in check(results)}:
            refused += 1
        else:
            evaluate_youtube_vis(gt, results)
            evaluated += 1
    assert min(evaluated, refused) > 20


# The commands


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A valid ``set.json`` and ``results.json``."""
    monkeypatch.setenv("COLUMNS", "200")  # wide enough to keep table rows on one line
    (tmp_path / "set.json").write_text(json.dumps(public_set()))
    (tmp_path / "results.json").write_text(json.dumps(sound()))
    return tmp_path


def run(*words):
    return cli.main([str(word) for word in words])


def test_check_submission_reports_valid_results(files, capsys):
    assert run("check-submission", files / "results.json", files / "set.json") == 0
    captured = capsys.readouterr()
    assert captured.out == f"{files / 'results.json'}: no findings\n"
    assert captured.err == ""


def test_check_submission_lists_errors_and_exits_2(files, capsys):
    (files / "results.json").write_text(json.dumps([{**sound()[0], "score": None}, 3]))
    words = [files / "results.json", files / "set.json", "--json", files / "findings.json"]
    assert run("check-submission", *words) == 2
    captured = capsys.readouterr()
    assert "must be a finite number, is None" in captured.out
    assert captured.err == f"queryinst-vis: error: {files / 'results.json'}: 2 errors\n"
    written = json.loads((files / "findings.json").read_text())
    assert [finding["entry"] for finding in written["findings"]] == [0, 1]


def test_data_validate_also_checks_results(files, capsys):
    (files / "results.json").write_text(json.dumps([detection([None])]))
    assert run("data", "validate", files / "set.json", "--results", files / "results.json") == 2
    captured = capsys.readouterr()
    assert f"{files / 'set.json'}: 1 note" in captured.out
    assert f"{files / 'results.json'}: 1 error" in captured.out
    assert str(files / "set.json") not in captured.err


def test_a_zip_with_its_results_in_a_folder_is_refused(files, capsys):
    with zipfile.ZipFile(files / "up.zip", "w") as archive:
        archive.write(files / "results.json", "out/results.json")
    assert run("check-submission", files / "up.zip", files / "set.json") == 2
    assert "it is in a folder, as out/results.json" in capsys.readouterr().err


def test_other_files_in_a_zip_are_a_warning(files, capsys):
    with zipfile.ZipFile(files / "up.zip", "w") as archive:
        archive.write(files / "results.json", "results.json")
        archive.writestr("__MACOSX/._results.json", "")
    assert run("check-submission", files / "up.zip", files / "set.json") == 0
    assert "the zip contains 1 other files, e.g. __MACOSX/._results.json" in capsys.readouterr().out


def test_a_set_that_is_broken_or_of_images_is_refused(files, capsys):
    (files / "set.json").write_text(json.dumps({"videos": [], "categories": None}))
    assert run("check-submission", files / "results.json", files / "set.json") == 2
    assert "`categories` must be a list, is a NoneType; 'queryinst-vis data validate" in (
        capsys.readouterr().err
    )
    (files / "set.json").write_text(
        json.dumps({"images": [], "categories": [{"id": 1, "name": "car"}]})
    )
    assert run("check-submission", files / "results.json", files / "set.json") == 2
    assert "the set contains images" in capsys.readouterr().err


def test_zip_packs_what_the_evaluation_reads(files, capsys):
    target = files / "new" / "up.zip"
    assert run("zip", files / "results.json", target, "--set", files / "set.json") == 0
    assert f"wrote {target}" in capsys.readouterr().out
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == ["results.json"]
    assert run("check-submission", target, files / "set.json") == 0


@pytest.mark.parametrize(
    ("results", "needs_set"), [([{"video_id": 1}], False), ([detection([None])], True)]
)
def test_zip_refuses_what_a_server_would_refuse(results, needs_set, files, capsys):
    (files / "results.json").write_text(json.dumps(results))
    words = ["--set", files / "set.json"] if needs_set else []
    assert run("zip", files / "results.json", files / "up.zip", *words) == 2
    assert "1 error" in capsys.readouterr().err
    assert not (files / "up.zip").exists()


def test_zip_refuses_a_zip(files, capsys):
    assert run("zip", files / "results.json", files / "up.zip") == 0
    assert run("zip", files / "up.zip", files / "again.zip") == 2
    assert "is already a zip" in capsys.readouterr().err
