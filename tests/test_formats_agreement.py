"""Training and evaluation accept a file exactly if ``data validate`` finds no error."""

import copy
import json
import random
from collections import Counter

import pytest
from data_support import coco_content

from benchmarks.fuzz.mutations import mutated, valid_files
from queryinst_vis.data import records
from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.tools.validate import validate_set
from queryinst_vis.data.youtube_vis import YouTubeVisDataset
from queryinst_vis.errors import InputError
from queryinst_vis.evaluation import evaluate_coco
from queryinst_vis.formats.annotation_set import parse_set
from queryinst_vis.formats.findings import ERROR, REFUSED, ignore
from queryinst_vis.formats.video_set import VideoSet
from queryinst_vis.masks import to_rle


def train(path, content):
    """Open a set and decode every mask of every frame, as a full training does."""
    classes = list(parse_set(content, ignore).categories.values())
    if "videos" in content:
        videos = YouTubeVisDataset(path, path.parent, classes).videos
        frames = [video.frame(index) for video in videos for index in range(len(video))]
    else:
        frames = CocoDataset(path, path.parent, classes).images
    for frame in frames:
        for instance in [*frame.instances, *frame.ignored]:
            if instance.segmentation is not None:
                to_rle(instance.segmentation, frame.height, frame.width, "mask")


def evaluate_video(path, content):
    """Read all tracks, with one valid result."""
    annotation_set = parse_set(content, ignore)
    video = next(iter(annotation_set.videos.values()))
    category = next(iter(annotation_set.categories))
    empty = [None] * video.length
    entry = {"video_id": video.id, "category_id": category, "score": 0.5, "segmentations": empty}
    list(VideoSet(path, [entry]))


def evaluate_images(path, content):
    annotation_set = parse_set(content, ignore)
    image = next(iter(annotation_set.videos))
    category = next(iter(annotation_set.categories))
    evaluate_coco(
        path,
        [{"image_id": image, "category_id": category, "score": 0.5, "bbox": [0, 0, 5, 5]}],
    )


def is_accepted(use, path, content):
    try:
        use(path, content)
    except InputError as error:
        assert "\n" not in str(error)
        return False
    return True


def findings_of(path):
    try:
        return {finding.kind: finding.severity for finding in validate_set(path)}
    except InputError:  # no JSON object
        return {"missing list": ERROR}


def mutations(sound, seeds, folder, monkeypatch):
    """Mutations of a valid content, written to a file, with the findings."""
    monkeypatch.setattr(records, "check_images", lambda images, annotation_set: None)
    path = folder / "set.json"
    for seed in seeds:
        rng = random.Random(seed)
        content = sound(rng)
        for _ in range(rng.choice([0, 1, 1, 2])):
            content = mutated(content, rng)
        if not isinstance(content, dict):
            continue
        path.write_bytes(json.dumps(content).encode("utf-8", "surrogatepass"))
        found = findings_of(path)
        usable = parse_set(content, ignore)
        if usable.videos and usable.categories:
            yield seed, path, content, found


def expected(found, use):
    return ERROR not in found.values() and found.keys().isdisjoint(REFUSED[use])


@pytest.mark.parametrize(
    ("use", "function"), [("training", train), ("evaluation of masks", evaluate_video)]
)
def test_video_sets_are_accepted_exactly_if_no_error_is_found(use, function, tmp_path, monkeypatch):
    outcomes = Counter()
    cases = mutations(lambda rng: valid_files(rng)[0], range(400), tmp_path, monkeypatch)
    for seed, path, content, found in cases:
        accepted = is_accepted(function, path, content)
        assert accepted == expected(found, use), (seed, found)
        outcomes[accepted] += 1
    assert min(outcomes[True], outcomes[False]) > 50


def test_image_sets_are_accepted_exactly_if_no_error_is_found(tmp_path, monkeypatch):
    outcomes = Counter()

    def sound(rng):
        content = copy.deepcopy(coco_content())
        for annotation in content["annotations"]:
            annotation["area"] = 500
        return content

    for seed, path, content, found in mutations(sound, range(400), tmp_path, monkeypatch):
        accepted = is_accepted(train, path, content)
        assert accepted == expected(found, "training"), (seed, found)
        if expected(found, "evaluation of boxes"):  # which never looks at the masks
            assert is_accepted(evaluate_images, path, content), seed
        outcomes[accepted] += 1
    assert min(outcomes[True], outcomes[False]) > 50


def test_only_the_table_says_what_is_refused_without_being_an_error():
    from queryinst_vis.formats.findings import SEVERITIES

    kinds = set().union(*REFUSED.values())
    assert {SEVERITIES[kind] for kind in kinds} <= {"warning", "note"}
