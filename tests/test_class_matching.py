"""Matching the classes of two label sets by name, spelling and synonym."""

from __future__ import annotations

from pathlib import Path

import pytest

from queryinst_vis.checkpoints.aliases import HOMONYMS, SYNONYMS, canonical_name, match_rows
from queryinst_vis.config import load_config

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def classes_of(name):
    return load_config(CONFIGS / name).model.classes


COCO = classes_of("_base_/queryinst_r50.yaml")

YTVIS_2019 = classes_of("youtube_vis/queryinst_vis_r50_2019.yaml")

VIDEO_CONFIGS = [
    path for name in ("youtube_vis", "ovis") for path in CONFIGS.glob(f"{name}/*.yaml")
]

LABEL_SETS = {tuple(COCO), *(tuple(classes_of(path)) for path in VIDEO_CONFIGS)}


def partners(source, target):
    return {
        name: source[row]
        for name, row in zip(target, match_rows(source, target), strict=True)
        if row is not None
    }


def test_coco_and_youtube_vis_2019_share_nineteen_classes():
    assert partners(COCO, YTVIS_2019) == {
        "person": "person",
        "skateboard": "skateboard",
        "sedan": "car",
        "dog": "dog",
        "cat": "cat",
        "cow": "cow",
        "train": "train",
        "horse": "horse",
        "bear": "bear",
        "motorbike": "motorcycle",
        "giraffe": "giraffe",
        "surfboard": "surfboard",
        "airplane": "airplane",
        "truck": "truck",
        "zebra": "zebra",
        "elephant": "elephant",
        "snowboard": "snowboard",
        "boat": "boat",
        "tennis_racket": "tennis racket",
    }


def test_homonyms_are_not_matched_across_label_sets():
    assert "mouse" in COCO and "mouse" in YTVIS_2019
    assert "mouse" not in partners(COCO, YTVIS_2019)
    assert "mouse" not in partners(YTVIS_2019, COCO)
    assert partners(COCO, COCO)["mouse"] == "mouse"
    assert partners(YTVIS_2019, ["mouse", "cat"])["mouse"] == "mouse"


@pytest.mark.parametrize("source", sorted(LABEL_SETS), ids=lambda names: f"{len(names)} classes")
@pytest.mark.parametrize("target", sorted(LABEL_SETS), ids=lambda names: f"{len(names)} classes")
def test_class_matching_is_symmetric(source, target):
    there = partners(list(source), list(target))
    assert there == {new: old for old, new in partners(list(target), list(source)).items()}
    if source == target:
        assert there == {name: name for name in source}


def test_every_synonym_and_homonym_occurs_in_a_label_set():
    known = {name for names in LABEL_SETS for name in names}
    table = [name for group in SYNONYMS for name in group]
    assert len(set(map(canonical_name, table))) == len(table)
    unknown = {name for name in [*table, *HOMONYMS, *HOMONYMS.values()] if name not in known}
    assert unknown == set()


def test_exact_names_are_preferred_to_spellings_and_spellings_to_synonyms():
    assert match_rows(["sedan", "Car", "car"], ["car"]) == [2]
    assert match_rows(["sedan", "Car"], ["car"]) == [1]
    assert match_rows(["sedan"], ["car"]) == [0]
    assert match_rows(["car"], ["sedan", "car"]) == [None, 0]
    assert match_rows(["giant panda"], ["Giant_Panda", "panda"]) == [0, None]
