"""Conversion of a real MOTS sequence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from queryinst_vis.data.convert import convert_mots
from queryinst_vis.masks import decode_rle


@pytest.fixture
def sequence_0005(tmp_path):
    """MOTSChallenge's sequence 0005, alone in a folder of links."""
    root = os.environ.get("QUERYINST_VIS_DATA")
    if root is None:
        pytest.skip("set QUERYINST_VIS_DATA to a folder with data/mots to run on real data")
    real = Path(root) / "data" / "mots"
    for part in ("images/0005", "instances/0005", "instances_txt/0005.txt"):
        (tmp_path / "mots" / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mots" / part).symlink_to(real / part)
    return tmp_path / "mots"


def test_real_maps_and_text_give_the_same_file(sequence_0005, tmp_path):
    written = {}
    for source in ("png", "txt"):
        target = tmp_path / f"{source}.json"
        convert_mots(sequence_0005, target, start=0.5, end=0.54, source=source)
        written[source] = json.loads(target.read_text())
    assert written["png"] == written["txt"]
    (video,), tracks = written["png"]["videos"], written["png"]["annotations"]
    assert (video["length"], video["width"], video["height"]) == (34, 640, 480)
    assert len(tracks) >= 5
    assert {track["category_id"] for track in tracks} == {2}


def test_real_masks_are_the_pixels_of_the_maps(sequence_0005, tmp_path):
    convert_mots(sequence_0005, tmp_path / "set.json", start=0.5, end=0.51)
    content = json.loads((tmp_path / "set.json").read_text())
    (video,) = content["videos"]
    for index, name in enumerate(video["file_names"]):
        png = sequence_0005 / "instances" / Path(name).with_suffix(".png")
        ids = cv2.imread(str(png), cv2.IMREAD_UNCHANGED)
        owner = np.zeros(ids.shape, int)
        for track in content["annotations"]:
            if track["segmentations"][index] is not None:
                owner[decode_rle(track["segmentations"][index])] = track["id"]
        # The same partition of the frame: every map id is one track, and the reverse.
        pairs = set(zip(ids.ravel().tolist(), owner.ravel().tolist(), strict=True))
        assert len(pairs) == len(np.unique(ids)) == len(np.unique(owner))
        assert (0, 0) in pairs
