"""Files are streamed video by video, in any form, by any number of workers."""

import json
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from eval_cases import detection, ground_truth, rle

from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.evaluation.youtube_vis import match_video
from queryinst_vis.formats import json_stream
from queryinst_vis.formats.video_set import VideoSet

GOLDEN = Path(__file__).parent / "data" / "ytvis_eval"


@pytest.fixture
def files(tmp_path):
    """Write ground truth and results, given as text or content; returns their paths."""

    def write(gt, results):
        paths = tmp_path / "gt.json", tmp_path / "results.json"
        for path, content in zip(paths, (gt, results), strict=True):
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text, encoding="utf-8")
        return paths

    return write


@pytest.mark.parametrize("block", [1, 2, 1 << 20])
def test_a_byte_order_mark_is_skipped(tmp_path, monkeypatch, block):
    monkeypatch.setattr(json_stream, "BLOCK", block)
    paths = tmp_path / "gt.json", tmp_path / "results.json"
    for path, content in zip(paths, one_track(), strict=True):
        path.write_text(json.dumps(content), encoding="utf-8-sig")
    assert evaluate_youtube_vis(*paths)["AP"] > 0.99
    with zipfile.ZipFile(tmp_path / "results.zip", "w") as archive:
        archive.write(paths[1], "results.json")
    assert evaluate_youtube_vis(paths[0], tmp_path / "results.zip")["AP"] > 0.99


def test_utf_16_is_refused_by_name(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("[]", encoding="utf-16")
    with pytest.raises(InputError, match=r"results\.json: .*UTF-16"):
        evaluate_youtube_vis(one_track()[0], path)


def one_track():
    masks = [rle(0, 0, 100, 100), None]
    return ground_truth([{"segmentations": masks}]), [detection(masks)]


@pytest.mark.parametrize("block", [1, 7, 100, 1 << 20])
def test_reading_does_not_depend_on_block_boundaries(block, monkeypatch):
    expected = json.loads((GOLDEN / "small_expected.json").read_text())
    monkeypatch.setattr(json_stream, "BLOCK", block)
    found = evaluate_youtube_vis(GOLDEN / "small_gt.json", GOLDEN / "small_results.json")
    assert found["AP"] == pytest.approx(expected["AP"], abs=1e-12)


def test_reading_does_not_depend_on_key_order_whitespace_or_unknown_keys(files):
    gt, results = one_track()
    gt = {"info": {"by": "Zoë", "n": 12}, **dict(reversed(gt.items())), "licenses": [1.5, None]}
    loose = json.dumps(gt, indent=3, ensure_ascii=False) + "\n\n"
    found = evaluate_youtube_vis(*files(loose, "\t" + json.dumps(results, indent=1)))
    assert found["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize("form", ["content", "file", "zip"])
def test_non_ascii_names_are_read(form, files, tmp_path):
    gt, results = one_track()
    gt["categories"][0]["name"] = "Bär"
    gt["videos"][0]["file_names"] = ["Straße/0.jpg", "Straße/1.jpg"]
    gt["annotations"][0]["note"] = results[0]["note"] = "größer als ein 🐕"
    sources = {"content": (gt, results)}
    sources["file"] = files(json.dumps(gt, ensure_ascii=False), json.dumps(results))
    with zipfile.ZipFile(tmp_path / "upload.zip", "w") as archive:
        archive.writestr("results.json", json.dumps(results, ensure_ascii=False))
    sources["zip"] = sources["file"][0], tmp_path / "upload.zip"
    found = evaluate_youtube_vis(*sources[form])
    assert found["per_class_AP"]["Bär"] == pytest.approx(1.0)
    assert found["per_video_AP"] == {"Straße": pytest.approx(1.0)}


BROKEN = {
    "empty": ("", "Expecting value at byte 0"),
    "cut off in a string": ('[{"video_id": 1, "categ', "Unterminated string starting at byte 17"),
    "cut off in a number": ('[{"video_id": 1', "Expecting ',' delimiter at byte 15"),
    "cut off in the list": ('[{"video_id": 1}', "expected ']' at byte 16"),
    "no comma": ('[{"a": 1} {"a": 1}]', "expected ']' at byte 10"),
    "more behind": ("[{}]]", "extra data at byte 4"),
    "a word": ("[nul]", "Expecting value at byte 1"),
    "deep": ("[" * 100_000, "recursion"),
    "long number": ("[" + "9" * 5000 + "]", "4300 digits"),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
def test_malformed_json_is_refused_with_its_place(text, message, files):
    gt, results = files(one_track()[0], text)
    with pytest.raises(InputError) as caught:
        evaluate_youtube_vis(gt, results)
    assert str(caught.value).startswith(f"results {results}: not readable as JSON (")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_invalid_utf_8_byte_is_refused_with_its_place(files):
    gt, results = files(*one_track())
    results.write_bytes(results.read_bytes().replace(b'"score"', b'"sc\xffore"'))
    with pytest.raises(InputError, match="not readable as JSON"):
        evaluate_youtube_vis(gt, results)


def test_memory_follows_the_largest_video_not_the_set(files, monkeypatch):
    monkeypatch.setattr(json_stream, "BLOCK", 10_000)

    def peak(videos):
        masks = [{"size": [400, 300], "counts": [k, 1000, 119000 - k]} for k in range(200)]
        gt = ground_truth([{"segmentations": masks}], length=200, videos=range(1, videos + 1))
        results = [detection(masks, video_id=video) for video in range(1, videos + 1)]
        paths = files(gt, results)
        tracemalloc.start()
        matches = [match_video(tracks) for tracks in VideoSet(*paths)]
        assert len(matches) == videos
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)  # imports, caches
    few, many = peak(5), peak(40)
    whole = 40 * 200 * 100  # an object of a mask's size, 40 videos of 200 masks
    assert many - few < whole / 4


def test_a_file_modified_while_being_read_is_refused(files):
    gt, results = files(*one_track())
    video_set = VideoSet(gt, results)
    results.write_text("[" + " " * results.stat().st_size)
    with pytest.raises(InputError, match="changed while"):
        list(video_set)


def test_worker_processes_give_the_same_metrics():
    files = GOLDEN / "medium_gt.json", GOLDEN / "medium_results.json"
    assert evaluate_youtube_vis(*files, workers=2) == evaluate_youtube_vis(*files)


def test_an_error_in_a_worker_process_is_raised_unchanged():
    error = InputError("results: entry 0: is wrong")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
