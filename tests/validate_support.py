"""A valid annotation file, and mutations of it."""

import json

from data_support import video_content

from queryinst_vis.data.tools.validate import validate_set

OF_RESULTS = {"score", "score range", "not compressed", "other files", "too many", "nothing found"}
"""Kinds that only result files have; test_submission.py has a case for each."""


def sound():
    """A video set with nothing wrong: a car in four frames, a dog in two of them."""
    content = video_content()
    content["annotations"][0]["areas"] = [300] * 4
    content["annotations"][1]["areas"] = [None, 400, 400, None]
    return content


def check(content, tmp_path, images=None):
    """Write the content and return its findings."""
    path = tmp_path / "set.json"
    path.write_text(json.dumps(content))
    return validate_set(path, images)


def car(content):
    return content["annotations"][0]


def set_mask(content, mask, frame=2):
    car(content)["segmentations"][frame] = mask


JUNK = [
    None,
    -1,
    0,
    1,
    2.5,
    1e300,
    "x",
    "",
    [],
    {},
    [1],
    [[]],
    {"size": [1]},
    True,
    10**30,
    10**400,
    "b'1'",
]


def spoil_somewhere(content, chance):
    """Replace or drop a random part of a JSON value."""
    node = content
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = chance.choice(list(keys))
        below = node[key]
        if isinstance(below, dict | list) and below and chance.random() < 0.85:
            node = below
        elif chance.random() < 0.3:
            del node[key]
            return
        else:
            node[key] = chance.choice(JUNK)
            return
