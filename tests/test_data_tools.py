"""``data stats``, ``split``, ``browse``, ``merge``, ``filter`` and ``remap``."""

import copy
import json
import random

import cv2
import numpy as np
import pytest
from data_support import HEIGHT, WIDTH, coco_content, rectangle, video_content, write_set
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import Params

from queryinst_vis import cli
from queryinst_vis.data.tools.edit import filter_set, merge_sets, remap_set
from queryinst_vis.data.tools.split import choose_names, split_set
from queryinst_vis.data.tools.statistics import (
    SIZE_BOUNDS,
    measure_set,
    overlap_rate,
    summarise_set,
)
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.evaluation import evaluate_coco, evaluate_tracking, evaluate_youtube_vis
from queryinst_vis.evaluation.youtube_vis import AREA_RANGES
from queryinst_vis.formats.annotation_set import open_set, parse_set
from queryinst_vis.formats.names import video_name, videos_checksum
from queryinst_vis.masks import encode_rle
from queryinst_vis.video.reader import VideoReader
from queryinst_vis.visualization.contact_sheet import ContactSheet


def parsed(content):
    found = []
    annotation_set = parse_set(content, found.append)
    assert [finding for finding in found if finding.severity == "error"] == []
    return annotation_set


def run(*words):
    return cli.main([str(word) for word in words])


def write(content, path):
    path.write_text(json.dumps(content))
    return path


def names_of(content):
    return [category["name"] for category in content["categories"]]


# Stats


def summary_of(content):
    annotation_set = parsed(content)
    return summarise_set(measure_set(annotation_set), annotation_set.kind)


def test_stats_of_a_video_that_can_be_counted_by_hand():
    content = video_content()  # a car of 20 x 15 moves right by 10 a frame; a dog in 2 of 4 frames
    content["annotations"].append({**content["annotations"][1], "id": 99, "iscrowd": 1})
    numbers = summary_of(content)
    assert numbers["classes"] == {
        "car": {"tracks": 1, "masks": 4, "videos": 1},
        "dog": {"tracks": 1, "masks": 2, "videos": 1},
    }
    counted = ("videos", "frames", "tracks", "masks", "entries", "exits", "gaps")
    assert [numbers[key] for key in counted] == [1, 4, 2, 6, 1, 1, 0]
    assert numbers["sizes"] == {"80x48": 1}
    assert numbers["track_length"] == {"min": 2, "median": 3, "mean": 3, "max": 4}
    assert numbers["objects_per_frame"]["mean"] == 1.5
    assert numbers["motion"]["max"] == pytest.approx(10 / np.sqrt(300))
    assert numbers["motion"]["min"] == 0  # the dog stays
    assert (numbers["small"], numbers["medium"], numbers["large"]) == (2, 0, 0)
    assert numbers["mask_side"]["max"] == pytest.approx(20)


def test_a_track_that_comes_back_has_a_gap_and_no_motion_across_it():
    content = video_content()
    for key in ("segmentations", "bboxes"):
        content["annotations"][0][key][1:3] = [None, None]
    numbers = summary_of(content)
    assert numbers["gaps"] == 1
    assert numbers["motion"] == {"min": 0, "median": 0, "mean": 0, "max": 0}  # the dog's


def test_an_image_is_a_video_of_one_frame():
    numbers = summary_of(coco_content())
    assert (numbers["videos"], numbers["frames"], numbers["tracks"]) == (2, 2, 2)
    assert numbers["motion"] is None


def test_a_set_in_which_nothing_is_annotated_can_be_counted():
    content = video_content()
    content["annotations"] = []
    numbers = summary_of(content)
    assert (numbers["tracks"], numbers["track_length"], numbers["classes"]) == (0, None, {})


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2), min_size=1, max_size=6
    )
)
def test_the_overlap_rate_is_that_of_painted_boxes(boxes):
    painted = np.zeros((40, 40), dtype=int)
    for x, y, width, height in boxes:
        painted[y : y + height, x : x + width] += 1
    expected = (painted > 1).sum() / (painted > 0).sum()
    assert overlap_rate(np.array(boxes, dtype=float)) == pytest.approx(expected)


def test_sizes_are_those_of_the_metrics():
    bounds = [AREA_RANGES[name][1] for name in ("small", "medium")]
    assert SIZE_BOUNDS["video"] == tuple(bounds)
    coco = dict(zip(Params("segm").areaRngLbl, Params("segm").areaRng, strict=True))
    assert SIZE_BOUNDS["image"] == (coco["small"][1], coco["medium"][1])


def test_stats_prints_writes_and_draws(tmp_path, capsys):
    path = write(video_content(), tmp_path / "set.json")
    words = ["--json", tmp_path / "stats.json", "--plots", tmp_path / "plots"]
    assert run("data", "stats", path, *words) == 0
    printed = capsys.readouterr().out
    assert "car" in printed
    assert "overlap rate" in printed
    assert json.loads((tmp_path / "stats.json").read_text()) == summary_of(video_content())
    drawn = {file.stem for file in (tmp_path / "plots").glob("*.png")}
    lengths = {"video_lengths", "track_lengths", "motion"}
    assert drawn == lengths | {"classes", "sizes", "objects", "occlusion"}
    assert all(cv2.imread(str(tmp_path / "plots" / f"{name}.png")).std() > 1 for name in drawn)


def test_stats_needs_annotations_and_sound_masks(tmp_path, capsys):
    content = video_content()
    content["annotations"][0]["segmentations"][2] = {"size": [1, 1], "counts": "1"}
    assert run("data", "stats", write(content, tmp_path / "set.json")) == 2
    assert "video 12 (v12), annotation 31, frame 2" in capsys.readouterr().err
    del content["annotations"]
    assert run("data", "stats", write(content, tmp_path / "set.json")) == 2
    assert "the file has no annotations" in capsys.readouterr().err


# Split


def many_videos(count, classes=("person", "dog", "yak"), seed=0):
    """Sequences with a few classes each; the last class is rare."""
    chance = random.Random(seed)
    mask = encode_rle(rectangle(0, 0, 9, 9))
    content = {"videos": [], "annotations": [], "categories": []}
    for k, name in enumerate(classes, start=1):
        content["categories"].append({"id": k, "name": name})
    for k in range(1, count + 1):
        names = [f"{chance.getrandbits(40):010x}/0.jpg"]
        video = {"id": k, "height": HEIGHT, "width": WIDTH, "length": 1, "file_names": names}
        content["videos"].append(video)
        for category in range(1, len(classes) + 1):
            if chance.random() < 0.8 / category**2:
                identity = len(content["annotations"]) + 1
                ids = {"id": identity, "video_id": k, "category_id": category}
                content["annotations"].append({**ids, "segmentations": [mask]})
    return content


def small_names(content, fraction=0.2, salt=""):
    _, small = split_set(parsed(content), fraction, salt)
    return {video_name(video) for video in small["videos"]}


def test_a_split_parts_the_set_and_has_every_class_in_both_parts():
    content = many_videos(60)
    large, small = split_set(parsed(content), 0.2)
    for key in ("videos", "annotations"):
        ids = [entry["id"] for part in (large, small) for entry in part[key]]
        assert sorted(ids) == [entry["id"] for entry in content[key]]
    for part in (large, small):
        own = {video["id"] for video in part["videos"]}
        assert {entry["video_id"] for entry in part["annotations"]} <= own
        assert {entry["category_id"] for entry in part["annotations"]} == {1, 2, 3}
        assert part["categories"] == content["categories"]
        assert part["info"]["split"]["checksum"] == videos_checksum(part["videos"])
    assert len(small["videos"]) == pytest.approx(12, abs=2)


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_split_depends_neither_on_ids_nor_on_the_order_of_the_file(chance):
    content = many_videos(30)
    expected = small_names(content)
    new_ids = chance.sample(range(1000), 30)
    for video in content["videos"]:
        video["id"] = new_ids[video["id"] - 1]
    for annotation in content["annotations"]:
        annotation["video_id"] = new_ids[annotation["video_id"] - 1]
        annotation["category_id"] *= 7
    for category in content["categories"]:
        category["id"] *= 7
    for key in ("videos", "annotations", "categories"):
        chance.shuffle(content[key])
    assert small_names(content) == expected


def test_another_salt_is_another_split():
    content = many_videos(60)
    assert small_names(content) != small_names(content, salt="another")


def test_clips_of_one_sequence_stay_together():
    content = many_videos(40)
    for video in content["videos"]:
        folder = f"sequence{video['id'] % 10}"
        video["file_names"] = [f"{folder}/{video['id']}.jpg"]
    large, small = split_set(parsed(content), 0.3)
    sides = [{video_name(video) for video in part["videos"]} for part in (large, small)]
    assert sides[0].isdisjoint(sides[1])
    assert len(sides[1]) == 3


def test_few_videos_change_sides_when_others_are_added():
    content = many_videos(400, classes=[f"class{k}" for k in range(6)])
    fewer = copy.deepcopy(content)
    fewer["videos"] = fewer["videos"][:380]
    fewer["annotations"] = [a for a in fewer["annotations"] if a["video_id"] <= 380]
    before, after = small_names(fewer, 0.1), small_names(content, 0.1)
    old = {video_name(video) for video in fewer["videos"]}
    assert len(before ^ (after & old)) <= 8  # of 380; a new draw would move about 70


def test_where_every_class_has_one_sequence_neither_part_is_empty():
    assert len(choose_names({"a": ["x"], "b": ["y"]}, 0.5, "")) == 1


def test_unlabelled_videos_are_split_as_well():
    content = many_videos(50)
    del content["annotations"]
    assert len(small_names(content, 0.3)) == 15


def test_one_sequence_cannot_be_split(tmp_path, capsys):
    path = write(video_content(), tmp_path / "set.json")
    assert run("data", "split", path, tmp_path / "a.json", tmp_path / "b.json") == 2
    assert "all videos are clips of one sequence" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


def test_the_split_command_prints_both_checksums(tmp_path, capsys):
    path = write(many_videos(30), tmp_path / "set.json")
    parts = tmp_path / "a.json", tmp_path / "b.json"
    assert run("data", "split", path, *parts, "--fraction", "0.2", "--salt", "x") == 0
    printed = capsys.readouterr().out
    for part, name in zip(parts, ("large", "small"), strict=True):
        content = json.loads(part.read_text())
        how = {"part": name, "fraction": 0.2, "salt": "x"}
        split = {**how, "checksum": videos_checksum(content["videos"])}
        assert content["info"]["split"] == split
        assert split["checksum"] in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["set.json", "a.json", "set.json"], "three different file names"),
        (["set.json", "a.json", "a.json"], "three different file names"),
        (["set.json", "a.json", "b.json", "--fraction", "1"], "must be above 0 and below 1"),
    ],
)
def test_bad_arguments_of_split(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(many_videos(9), tmp_path / "set.json")
    before = path.read_text()
    assert run("data", "split", *words) == 2
    assert message in capsys.readouterr().err
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


# Filter


def test_filter_keeps_classes_and_all_ids():
    content = video_content()
    part = filter_set(parsed(content), classes=["dog"])
    assert part["categories"] == [{"id": 5, "name": "dog"}]
    assert part["annotations"] == [content["annotations"][1]]
    assert part["videos"] == content["videos"]


def test_results_for_the_whole_belong_to_a_part():
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


def test_results_on_images_belong_to_a_part():
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
def test_a_broken_note_of_what_was_filtered_is_none(noted):
    content = {**video_content(), "info": {"filtered": noted}}
    assert filter_set(parsed(content), classes=["dog"])["info"]["filtered"]["categories"] == [9]


def test_filter_keeps_tracks_that_are_long_enough():
    part = filter_set(parsed(video_content()), min_length=3)
    assert [annotation["id"] for annotation in part["annotations"]] == [31]


@pytest.mark.parametrize("wanted", ["v12", "12", "v*2", "v[0-9]2", "[!w]12"])
def test_filter_finds_videos_by_name_and_by_id(wanted):
    content = video_content()
    other = {**content["videos"][0], "id": 13, "file_names": [f"w/{i}.jpg" for i in range(4)]}
    content["videos"].append(other)
    part = filter_set(parsed(content), videos=[wanted])
    assert part["videos"] == content["videos"][:1]


def test_filter_drops_images_in_which_nothing_is_left_only_if_asked():
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
def test_filter_says_what_the_file_lacks(options, message):
    with pytest.raises(InputError) as error:
        filter_set(parsed(video_content()), **options)
    assert message in str(error.value)


def test_the_filter_command(tmp_path, capsys):
    path, out = write(video_content(), tmp_path / "set.json"), tmp_path / "out.json"
    assert run("data", "filter", path, out, "--classes", "dog, car", "--min-length", "3") == 0
    assert f"wrote {out}: 1 videos, 1 annotations, 2 classes" in capsys.readouterr().out
    assert run("data", "filter", path, path, "--classes", "dog") == 2
    assert "is also an input" in capsys.readouterr().err


# Remap


def test_remap_makes_one_class_of_several():
    changed = remap_set(parsed(video_content()), {"dog": "thing", "car": "thing"})
    assert changed["categories"] == [{"id": 5, "name": "thing"}]
    assert [annotation["category_id"] for annotation in changed["annotations"]] == [5, 5]


def test_remap_into_a_class_that_is_there_keeps_its_id():
    changed = remap_set(parsed(video_content()), {"dog": "car"})
    assert changed["categories"] == [{"id": 9, "name": "car"}]
    assert {annotation["category_id"] for annotation in changed["annotations"]} == {9}


def test_remap_swaps_names():
    changed = remap_set(parsed(video_content()), {"dog": "car", "car": "dog"})
    assert changed["categories"] == [{"id": 5, "name": "car"}, {"id": 9, "name": "dog"}]
    assert changed["annotations"] == video_content()["annotations"]


def test_remap_drops_what_no_map_names_only_if_asked():
    assert names_of(remap_set(parsed(video_content()), {"dog": "pet"})) == ["pet", "car"]
    changed = remap_set(parsed(video_content()), {"dog": "pet"}, drop=True)
    assert names_of(changed) == ["pet"]
    assert [annotation["id"] for annotation in changed["annotations"]] == [30]


def test_the_remap_command(tmp_path, capsys):
    path, out = write(video_content(), tmp_path / "set.json"), tmp_path / "out.json"
    assert run("data", "remap", path, out, "--map", "dog=pet", "--drop") == 0
    assert names_of(json.loads(out.read_text())) == ["pet"]
    for words, message in (
        (["--map", "dog"], "expected OLD=NEW, got 'dog'"),
        (["--map", "cat=pet"], "no class has the name 'cat'"),
        (["--map", "dog=a", "--map", "dog=b"], "--map: a class is renamed twice"),
    ):
        assert run("data", "remap", path, out, *words) == 2
        assert message in capsys.readouterr().err


# Merge


def test_merge_counts_ids_anew_and_joins_classes_by_name():
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


def test_merging_the_parts_of_a_split_gives_the_set_again():
    content = many_videos(20)
    merged = merge_sets([parsed(part) for part in split_set(parsed(content), 0.3)])
    assert videos_checksum(merged["videos"]) == videos_checksum(content["videos"])
    assert summary_of(merged) == summary_of(content)


def test_merge_of_images():
    merged = merge_sets([parsed(coco_content()), parsed(coco_content())], ["a/", "b/"])
    names = [image["file_name"] for image in merged["images"]]
    assert names == ["a/a.jpg", "a/b.jpg", "b/a.jpg", "b/b.jpg"]


@pytest.mark.parametrize(
    ("contents", "prefixes", "message"),
    [
        ([video_content(), video_content()], None, "has frames of an earlier file, e.g. v12/0000"),
        ([video_content(), coco_content()], None, "a file of videos with one of images"),
        ([video_content(), video_content()], ["a/"], "1 prefixes for 2 files: give one for each"),
        ([{**video_content(), "annotations": None}], None, "file 1 has no annotations"),
    ],
)
def test_merge_says_what_does_not_fit(contents, prefixes, message):
    with pytest.raises(InputError) as error:
        merge_sets([parsed(content) for content in contents], prefixes)
    assert message in str(error.value)


def test_the_merge_command(tmp_path, capsys):
    paths = [write(video_content(), tmp_path / f"{name}.json") for name in "ab"]
    out = tmp_path / "both.json"
    assert run("data", "merge", *paths, out, "--prefix", "a/", "--prefix", "b/") == 0
    assert f"wrote {out}: 2 videos, 4 annotations, 2 classes" in capsys.readouterr().out
    assert len(open_set(out).videos) == 2


def test_a_broken_file_points_to_validate(tmp_path, capsys):
    content = video_content()
    content["annotations"][0]["video_id"] = 99
    path = write(content, tmp_path / "set.json")
    assert run("data", "filter", path, tmp_path / "out.json") == 2
    message = capsys.readouterr().err
    assert "annotation 31: video_id 99 is not in the file" in message
    assert f"'queryinst-vis data validate {path}' lists all findings" in message


# Browse


@pytest.fixture
def video_set(tmp_path):
    """``(annotation path, image folder)`` of one video of four frames."""
    return write_set(tmp_path, video_content())


def browse(video_set, out, *words):
    path, images = video_set
    return run("data", "browse", path, "--images", images, "--out", out, *words)


def test_a_sheet_has_a_row_for_each_video(video_set, tmp_path, capsys):
    out = tmp_path / "out" / "sheet.png"
    assert browse(video_set, out, "--columns", "2") == 0
    assert f"wrote {out}: 2 frames, 1 of 1 videos" in capsys.readouterr().out
    sheet = cv2.imread(str(out))
    assert sheet.shape == (HEIGHT + 18 + 8, 2 * (WIDTH + 4) + 4, 3)


def test_every_frame_in_rows_and_made_smaller(video_set, tmp_path):
    out = tmp_path / "sheet.jpg"
    assert browse(video_set, out, "--columns", "3", "--every", "1", "--width", "40") == 0
    sheet = cv2.imread(str(out))
    assert sheet.shape == (2 * (24 + 18 + 4) + 4, 3 * 44 + 4, 3)


def test_masks_are_drawn_where_the_objects_are(tmp_path):
    content = video_content()
    path, images = write_set(tmp_path, content)
    content["annotations"] = []
    bare = write(content, tmp_path / "bare.json")
    sheets = []
    for annotations, name in ((path, "masks.png"), (bare, "bare.png")):
        assert browse((annotations, images), tmp_path / name, "--columns", "1") == 0
        sheets.append(cv2.imread(str(tmp_path / name)).astype(int))
    changed = (sheets[0] != sheets[1]).any(axis=2)[4 : 4 + HEIGHT, 4 : 4 + WIDTH]
    assert changed[8:18, 8:22].mean() > 0.9  # inside the car's mask of the first frame
    assert not changed[30:, 50:].any()


def test_an_mp4_has_all_frames_and_room_for_the_caption(video_set, tmp_path):
    assert browse(video_set, tmp_path / "out.mp4", "--fps", "10") == 0
    reader = VideoReader(tmp_path / "out.mp4")
    assert (len(reader), reader.fps, reader.width, reader.height) == (4, 10, WIDTH, HEIGHT + 18)


def results_for(content, **changes):
    first = content["annotations"][0]
    result = {"video_id": 12, "category_id": 9, "segmentations": first["segmentations"]}
    return [{**result, "score": 0.9, **changes}]


def test_results_are_drawn_from_their_threshold_on(video_set, tmp_path):
    sheets = []
    for score in (0.9, 0.2):
        results = write(results_for(video_content(), score=score), tmp_path / "results.json")
        assert browse(video_set, tmp_path / "s.png", "--results", results) == 0
        sheets.append(cv2.imread(str(tmp_path / "s.png")))
    assert (sheets[0] != sheets[1]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video_id": 5}, "entry 0: video_id 5 is not in the data set; 'queryinst-vis check-subm"),
        ({"segmentations": [None]}, "entry 0, video 12 (v12): `segmentations` must have 4 entries"),
    ],
)
def test_results_that_do_not_fit(changes, message, video_set, tmp_path, capsys):
    results = write(results_for(video_content(), **changes), tmp_path / "results.json")
    assert browse(video_set, tmp_path / "s.png", "--results", results) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s.png").exists()


def test_browse_shows_chosen_or_the_first_images(tmp_path, capsys):
    image_set = write_set(tmp_path, coco_content())
    assert browse(image_set, tmp_path / "one.png", "--video", "b.jpg") == 0
    assert "1 frames, 1 of 2 images" in capsys.readouterr().out
    assert browse(image_set, tmp_path / "two.png", "--limit", "1") == 0
    assert "1 frames, 1 of 2 images" in capsys.readouterr().out


def test_bad_input_of_browse(video_set, tmp_path, capsys):
    assert browse(video_set, tmp_path / "out.gif") == 2
    assert "expected the name of a .png, .jpg or .mp4" in capsys.readouterr().err
    (video_set[1] / "v12" / "00000.jpg").unlink()
    assert browse(video_set, tmp_path / "out.mp4") == 2
    assert "00000.jpg: no such file" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()
    empty = write({**video_content(), "videos": [], "annotations": []}, tmp_path / "empty.json")
    assert browse((empty, video_set[1]), tmp_path / "out.mp4") == 2
    assert f"{empty}: contains no videos" in capsys.readouterr().err


def test_a_sheet_without_pictures_or_too_tall_is_refused(tmp_path):
    sheet = ContactSheet(columns=1)
    with pytest.raises(InputError, match="no image to show"):
        sheet.write(tmp_path / "sheet.png")
    tall = np.zeros((30_000, 1, 3), np.uint8)
    for _ in range(3):
        sheet.add(tall, "")
    with pytest.raises(InputError, match="show fewer videos"):
        sheet.write(tmp_path / "sheet.png")
    assert list(tmp_path.iterdir()) == []


# Convert


def test_data_convert_is_convert_dataset():
    words = ["mots", "src", "dst.json", "--clip-length", "9"]
    one = cli.parse_arguments(["convert-dataset", *words])
    assert cli.parse_arguments(["data", "convert", *words]) == one
