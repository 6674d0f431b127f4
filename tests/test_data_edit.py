"""``data filter``, ``remap`` and ``merge``."""

import json

import pytest
from data_support import (
    coco_content,
    many_videos,
    parsed,
    run_cli,
    summary_of,
    video_content,
    write_json,
)

from queryinst_vis.data.tools.edit import filter_set, merge_sets, remap_set
from queryinst_vis.data.tools.split import sequences_of, split_set
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.evaluation import evaluate_coco, evaluate_tracking, evaluate_youtube_vis
from queryinst_vis.formats.annotation_set import open_set
from queryinst_vis.formats.names import videos_checksum


def names_of(content):
    return [category["name"] for category in content["categories"]]


# Filter


def test_filter_keeps_the_selected_classes_and_all_ids():
    content = video_content()
    part = filter_set(parsed(content), classes=["dog"])
    assert part["categories"] == [{"id": 5, "name": "dog"}]
    assert part["annotations"] == [content["annotations"][1]]
    assert part["videos"] == content["videos"]


def test_results_for_the_whole_set_can_be_evaluated_on_a_filtered_part():
    content = video_content()
    other = {**content["videos"][0], "id": 13, "file_names": [f"w/{i}.jpg" for i in range(4)]}
    content["videos"].append(other)
    masks = {a["category_id"]: a["segmentations"] for a in content["annotations"]}
    results = [
        {"video_id": video, "category_id": category, "score": 0.5, "segmentations": masks[category]}
        for video, category in ((12, 5), (12, 9), (13, 5), (13, 9))
    ]
    part = filter_set(parsed(content), classes=["dog"], videos=["12"])
    assert part["info"] == {"filtered": {"videos": [13], "categories": [9]}}
    for evaluate in (evaluate_youtube_vis, evaluate_tracking):
        with pytest.warns(InputWarning, match="3 results .* skipped"):
            found = evaluate(part, results)
        assert found == evaluate({**part, "info": {}}, results[:1])
        with pytest.raises(InputError, match="entry 0: category_id 7 "):
            evaluate(part, [{**results[0], "category_id": 7}])
    again = filter_set(parsed({**content, "info": {"year": 1}}), videos=["13"])
    assert again["info"] == {"year": 1, "filtered": {"videos": [12]}}
    assert filter_set(parsed(again), classes=["car"])["info"] == {
        "year": 1,
        "filtered": {"videos": [12], "categories": [5]},
    }


def test_image_results_can_be_evaluated_on_a_filtered_part():
    content = coco_content()
    for annotation in content["annotations"]:
        annotation["area"] = 500
    results = [
        {"image_id": image, "category_id": category, "score": 0.5, "bbox": [10, 8, 20, 32]}
        for image, category in ((70, 18), (70, 3), (7, 18))
    ]
    part = filter_set(parsed(content), classes=["dog"], drop_empty=True)
    with pytest.warns(InputWarning, match="2 results .* skipped"):
        assert evaluate_coco(part, results)["bbox"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize("noted", [None, 5, {"categories": 5}, {"categories": ["x", None, [1]]}])
def test_a_malformed_filter_record_is_ignored(noted):
    content = {**video_content(), "info": {"filtered": noted}}
    assert filter_set(parsed(content), classes=["dog"])["info"]["filtered"]["categories"] == [9]


def test_filter_keeps_tracks_of_the_minimum_length():
    part = filter_set(parsed(video_content()), min_length=3)
    assert [annotation["id"] for annotation in part["annotations"]] == [31]


@pytest.mark.parametrize("wanted", ["v12", "12", "v*2", "v[0-9]2", "[!w]12"])
def test_filter_selects_videos_by_name_pattern_and_id(wanted):
    content = video_content()
    other = {**content["videos"][0], "id": 13, "file_names": [f"w/{i}.jpg" for i in range(4)]}
    content["videos"].append(other)
    part = filter_set(parsed(content), videos=[wanted])
    assert part["videos"] == content["videos"][:1]


def test_filter_drops_empty_images_only_on_request():
    content = coco_content()
    part = filter_set(parsed(content), classes=["car"])
    assert [image["id"] for image in part["images"]] == [70, 7]
    part = filter_set(parsed(content), classes=["car"], drop_empty=True)
    assert [image["id"] for image in part["images"]] == [70]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["dgo"]}, "no class has the name 'dgo'; did you mean 'dog'?"),
        ({"videos": ["4711"]}, "no video has the name or id '4711'; there are 'v12'"),
        ({"min_length": 9, "drop_empty": True}, "nothing is left"),
    ],
)
def test_filter_refuses_classes_and_videos_the_file_lacks(options, message):
    with pytest.raises(InputError) as error:
        filter_set(parsed(video_content()), **options)
    assert message in str(error.value)


def test_the_filter_command(tmp_path, capsys):
    path, out = write_json(video_content(), tmp_path / "set.json"), tmp_path / "out.json"
    assert run_cli("data", "filter", path, out, "--classes", "dog, car", "--min-length", "3") == 0
    assert f"wrote {out}: 1 videos, 1 annotations, 2 classes" in capsys.readouterr().out
    assert run_cli("data", "filter", path, path, "--classes", "dog") == 2
    assert "is also an input or another output" in capsys.readouterr().err


# Remap


def test_remap_merges_several_classes_into_one():
    changed = remap_set(parsed(video_content()), {"dog": "thing", "car": "thing"})
    assert changed["categories"] == [{"id": 5, "name": "thing"}]
    assert [annotation["category_id"] for annotation in changed["annotations"]] == [5, 5]


def test_remap_into_an_existing_class_keeps_its_id():
    changed = remap_set(parsed(video_content()), {"dog": "car"})
    assert changed["categories"] == [{"id": 9, "name": "car"}]
    assert {annotation["category_id"] for annotation in changed["annotations"]} == {9}


def test_remap_swaps_names():
    changed = remap_set(parsed(video_content()), {"dog": "car", "car": "dog"})
    assert changed["categories"] == [{"id": 5, "name": "car"}, {"id": 9, "name": "dog"}]
    assert changed["annotations"] == video_content()["annotations"]


def test_remap_drops_unmapped_classes_only_on_request():
    assert names_of(remap_set(parsed(video_content()), {"dog": "pet"})) == ["pet", "car"]
    changed = remap_set(parsed(video_content()), {"dog": "pet"}, drop=True)
    assert names_of(changed) == ["pet"]
    assert [annotation["id"] for annotation in changed["annotations"]] == [30]


def test_the_remap_command(tmp_path, capsys):
    path, out = write_json(video_content(), tmp_path / "set.json"), tmp_path / "out.json"
    assert run_cli("data", "remap", path, out, "--map", "dog=pet", "--drop") == 0
    assert names_of(json.loads(out.read_text())) == ["pet"]
    for words, message in (
        (["--map", "dog"], "expected OLD=NEW, got 'dog'"),
        (["--map", "cat=pet"], "no class has the name 'cat'"),
        (["--map", "dog=a", "--map", "dog=b"], "--map: a class is renamed twice"),
    ):
        assert run_cli("data", "remap", path, out, *words) == 2
        assert message in capsys.readouterr().err


# Merge


def test_merge_renumbers_ids_and_joins_classes_by_name():
    one, other = video_content(), video_content()
    other["categories"] = [{"id": 2, "name": "car"}, {"id": 1, "name": "cat"}]
    for annotation, category in zip(other["annotations"], (2, 1), strict=True):
        annotation["category_id"] = category
    merged = merge_sets([parsed(one), parsed(other)], ["a/", "b/"])
    assert [(c["id"], c["name"]) for c in merged["categories"]] == [
        (1, "dog"),
        (2, "car"),
        (3, "cat"),
    ]
    assert [video["file_names"][0] for video in merged["videos"]] == [
        "a/v12/00000.jpg",
        "b/v12/00000.jpg",
    ]
    ids = [(a["id"], a["video_id"], a["category_id"]) for a in merged["annotations"]]
    assert ids == [(1, 1, 2), (2, 1, 1), (3, 2, 2), (4, 2, 3)]
    assert merged["annotations"][2]["segmentations"] == other["annotations"][0]["segmentations"]
    parsed(merged)


def test_merging_the_parts_of_a_split_restores_the_set():
    content = many_videos(20)
    merged = merge_sets([parsed(part) for part in split_set(parsed(content), 0.3)])
    assert videos_checksum(merged["videos"]) == videos_checksum(content["videos"])
    assert summary_of(merged) == summary_of(content)


def test_merge_prefixes_the_file_names_of_images():
    merged = merge_sets([parsed(coco_content()), parsed(coco_content())], ["a/", "b/"])
    names = [image["file_name"] for image in merged["images"]]
    assert names == ["a/a.jpg", "a/b.jpg", "b/a.jpg", "b/b.jpg"]


def frames_of_videos(videos):
    """A COCO set with three images and a track per video."""
    content = coco_content()
    [template] = [{**entry} for entry in content["images"][:1]]
    [annotation] = [{**entry} for entry in content["annotations"][:1]]
    images = [
        {**template, "id": 10 * video + frame, "file_name": f"v{video}/{frame}.jpg"}
        | {"video_id": video}
        for video in range(1, videos + 1)
        for frame in range(3)
    ]
    annotations = [
        {**annotation, "id": number, "image_id": image["id"], "track_id": image["video_id"]}
        for number, image in enumerate(images, start=1)
    ]
    return {**content, "images": images, "annotations": annotations}


def sequences_by_files(content):
    sequences = sequences_of(parsed(content))
    files = {image["id"]: image["file_name"] for image in content["images"]}
    return sorted(
        sorted(files[identity] for identity in sequences if sequences[identity] == name)
        for name in set(sequences.values())
    )


def test_merged_frames_of_different_videos_do_not_become_one_sequence():
    frames = frames_of_videos(3)
    merged = merge_sets([parsed(frames), parsed(frames)], ["a/", "b/"])
    assert sequences_by_files(merged) == [
        [f"{folder}/v{video}/{frame}.jpg" for frame in range(3)]
        for folder in "ab"
        for video in (1, 2, 3)
    ]
    assert [entry["track_id"] for entry in merged["annotations"]] == [
        track for track in range(1, 7) for _ in range(3)
    ]


def test_merging_the_parts_of_an_image_set_restores_its_sequences():
    frames = frames_of_videos(6)
    merged = merge_sets([parsed(part) for part in split_set(parsed(frames), 0.4)])
    assert sequences_by_files(merged) == sequences_by_files(frames)


@pytest.mark.parametrize(
    ("contents", "prefixes", "message"),
    [
        ([video_content(), video_content()], None, "has frames of an earlier file, e.g. v12/0000"),
        ([video_content(), coco_content()], None, "a file of videos with one of images"),
        ([video_content(), video_content()], ["a/"], "1 prefixes for 2 files: give one for each"),
        ([{**video_content(), "annotations": None}], None, "file 1 has no annotations"),
    ],
)
def test_merge_refuses_sets_that_do_not_fit_together(contents, prefixes, message):
    with pytest.raises(InputError) as error:
        merge_sets([parsed(content) for content in contents], prefixes)
    assert message in str(error.value)


def test_the_merge_command(tmp_path, capsys):
    paths = [write_json(video_content(), tmp_path / f"{name}.json") for name in "ab"]
    out = tmp_path / "both.json"
    assert run_cli("data", "merge", *paths, out, "--prefix", "a/", "--prefix", "b/") == 0
    assert f"wrote {out}: 2 videos, 4 annotations, 2 classes" in capsys.readouterr().out
    assert len(open_set(out).videos) == 2


def test_the_merge_command_does_not_take_its_last_set_for_the_output(tmp_path, capsys):
    paths = [write_json(video_content(), tmp_path / f"{name}.json") for name in "ab"]
    before = paths[1].read_bytes()
    assert run_cli("data", "merge", *paths) == 2
    assert "two or more sets, and then the file to write" in capsys.readouterr().err
    assert paths[1].read_bytes() == before


def test_errors_in_a_file_point_to_data_validate(tmp_path, capsys):
    content = video_content()
    content["annotations"][0]["video_id"] = 99
    path = write_json(content, tmp_path / "set.json")
    assert run_cli("data", "filter", path, tmp_path / "out.json") == 2
    message = capsys.readouterr().err
    assert "annotation 31: video_id 99 is not in the file" in message
    assert f"'queryinst-vis data validate {path}' lists all findings" in message
