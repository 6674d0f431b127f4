"""``data split``: deterministic, stratified, and by sequence."""

import copy
import json
from collections import Counter

import pytest
from data_support import many_videos, parsed, run_cli, video_content, write_json
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.data.tools.split import choose_names, split_set
from queryinst_vis.formats.names import video_name, videos_checksum


def small_names(content, fraction=0.2, salt=""):
    _, small = split_set(parsed(content), fraction, salt)
    return {video_name(video) for video in small["videos"]}


def test_a_split_is_a_partition_with_every_class_in_both_parts():
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
def test_a_split_is_independent_of_ids_and_file_order(chance):
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


def test_another_salt_gives_another_split():
    content = many_videos(60)
    assert small_names(content) != small_names(content, salt="another")


def test_clips_of_one_sequence_are_in_the_same_part():
    content = many_videos(40)
    for video in content["videos"]:
        folder = f"sequence{video['id'] % 10}"
        video["file_names"] = [f"{folder}/{video['id']}.jpg"]
    large, small = split_set(parsed(content), 0.3)
    sides = [{video_name(video) for video in part["videos"]} for part in (large, small)]
    assert sides[0].isdisjoint(sides[1])
    assert len(sides[1]) == 3


def test_adding_videos_moves_few_others_to_the_other_part():
    content = many_videos(400, classes=[f"class{k}" for k in range(6)])
    fewer = copy.deepcopy(content)
    fewer["videos"] = fewer["videos"][:380]
    fewer["annotations"] = [a for a in fewer["annotations"] if a["video_id"] <= 380]
    before, after = small_names(fewer, 0.1), small_names(content, 0.1)
    old = {video_name(video) for video in fewer["videos"]}
    assert len(before ^ (after & old)) <= 8  # of 380; a new draw would move about 70


def test_with_one_sequence_per_class_neither_part_is_empty():
    assert len(choose_names({"a": ["x"], "b": ["y"]}, 0.5, "")) == 1


def test_a_set_without_annotations_can_be_split():
    content = many_videos(50)
    del content["annotations"]
    assert len(small_names(content, 0.3)) == 15


def test_splitting_a_single_sequence_is_refused(tmp_path, capsys):
    path = write_json(video_content(), tmp_path / "set.json")
    assert run_cli("data", "split", path, tmp_path / "a.json", tmp_path / "b.json") == 2
    assert "all videos are clips of one sequence" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


def test_the_split_command_prints_both_checksums(tmp_path, capsys):
    path = write_json(many_videos(30), tmp_path / "set.json")
    parts = tmp_path / "a.json", tmp_path / "b.json"
    assert run_cli("data", "split", path, *parts, "--fraction", "0.2", "--salt", "x") == 0
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
        (["set.json", "a.json", "set.json"], "is also an input or another output"),
        (["set.json", "a.json", "a.json"], "is also an input or another output"),
        (["set.json", "a.json", "b.json", "--fraction", "1"], "must be above 0 and below 1"),
    ],
)
def test_bad_arguments_of_split_are_refused_without_output(
    words, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = write_json(many_videos(9), tmp_path / "set.json")
    before = path.read_text()
    assert run_cli("data", "split", *words) == 2
    assert message in capsys.readouterr().err
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def frames_of_clips(clips, frames=10):
    """A COCO set of frames whose file names are all different."""
    images = [
        {"id": 1 + clip * frames + n, "file_name": f"{clip}/{n}.jpg", "video_id": clip}
        for clip in range(clips)
        for n in range(frames)
    ]
    size = {"height": 4, "width": 4}
    box = {"category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}
    return {
        "images": [image | size for image in images],
        "annotations": [{"id": image["id"], "image_id": image["id"], **box} for image in images],
        "categories": [{"id": 1, "name": "box"}],
    }


def test_frames_of_a_video_are_in_the_same_part():
    parts = split_set(parsed(frames_of_clips(6)), 0.3)
    clips = [{image["video_id"] for image in part["images"]} for part in parts]
    assert clips[0] | clips[1] == set(range(6)) and not clips[0] & clips[1]


def test_the_frames_of_a_single_video_can_be_split():
    large, small = split_set(parsed(frames_of_clips(1)), 0.2)
    assert (len(large["images"]), len(small["images"])) == (8, 2)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=3),
        st.sets(st.sampled_from("uvwxyz"), max_size=3),
        min_size=2,
        max_size=12,
    ),
    st.floats(0.05, 0.5),
)
def test_the_large_part_has_every_class(classes, fraction):
    small = choose_names(classes, fraction, "")
    assert 0 < len(small) < len(classes)
    counts = Counter(each for found in classes.values() for each in found)
    kept = set().union(*(classes[name] for name in classes if name not in small))
    assert {each for each, count in counts.items() if count > 1} <= kept
