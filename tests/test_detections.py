"""Detections: masks from logits, pixels or RLEs, pasted and encoded at most once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference import track
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.outputs import OutputPlan
from queryinst_vis.inference.result import store
from queryinst_vis.masks import InstanceMask, MaskRegion, encode_rle, instance, paste
from queryinst_vis.structures import Detections
from queryinst_vis.video.source import open_source
from queryinst_vis.visualization import Overlay
from tests.sightings import random_frame
from tests.tracking_support import FRAMES, KnowingTracker

SIZE = (40, 50)


@pytest.fixture
def calls(monkeypatch):
    """How many masks were pasted, and how many encoded."""
    counted = {"pasted": 0, "encoded": 0}

    def count(module, name, key):
        original = getattr(module, name)

        def counting(*arguments):
            counted[key] += 1
            return original(*arguments)

        monkeypatch.setattr(module, name, counting)

    count(paste, "paste_region", "pasted")
    count(instance, "encode_region", "encoded")
    return counted


def found(count=6, seed=0):
    detections = random_frame(np.random.default_rng(seed), count)
    return replace(detections, track_ids=torch.arange(count))


def test_tracking_pastes_and_encodes_every_mask_once(video, tmp_path, calls):
    source = open_source(video)
    track.run_tracker(KnowingTracker(), source, OutputPlan(tmp_path, source, TrackOptions()), 3)
    instances = 2 * FRAMES - 4  # the crate comes in the fifth frame
    assert calls == {"pasted": instances, "encoded": instances}


def test_overlay_store_and_user_share_the_masks(calls):
    detections = found()
    Overlay(["a", "b"]).draw(np.zeros((*detections.image_size, 3), np.uint8), detections)
    with TrackStore() as tracks:
        store(tracks, detections)
    detections.masks(), detections.rles()
    some = detections[[4, 1]].to("cpu")
    assert some.rles() == [detections.rles()[4], detections.rles()[1]]
    assert torch.equal(some.masks(), detections.masks()[[4, 1]])
    assert calls == {"pasted": 6, "encoded": 6}


@pytest.mark.parametrize(
    "index", [[3, 0], slice(1, 4), [], torch.tensor([5, 2]), torch.arange(6) % 2 == 0]
)
def test_indexed_detections_keep_their_masks(index):
    detections = found()
    fresh = detections[index].rles()
    detections.rles()
    assert detections[index].rles() == fresh
    given = replace(detections, mask_logits=None, pixel_masks=detections.instance_masks())
    assert given[index].rles() == fresh


def test_single_detections_are_detections():
    detections = found()
    for number, one in enumerate(detections):
        assert len(one) == 1 and torch.equal(one.boxes, detections.boxes[number : number + 1])
    assert number == 5
    assert torch.equal(detections[-1].boxes, detections[5].boxes)
    with pytest.raises(IndexError):
        detections[6]


def test_replacing_boxes_or_logits_recomputes_the_masks():
    detections = found()
    detections.masks()
    for change in (
        {"boxes": detections.boxes + 5},
        {"mask_logits": -detections.mask_logits},
        {"mask_threshold": 0.8},
    ):
        expected = replace(found(), **change).masks()
        assert torch.equal(replace(detections, **change).masks(), expected)
        assert not torch.equal(expected, detections.masks())


def test_masks_may_be_given_as_pixels_or_rles():
    frames = np.zeros((2, *SIZE), dtype=bool)
    frames[0, 10:20, 5:30] = True
    frames[1, 30:, 40:] = True
    rles = [encode_rle(frame) for frame in frames]
    masks = [
        InstanceMask(SIZE, MaskRegion(frames[0, 8:22, 5:30], 5, 8)),
        InstanceMask(SIZE, rle=rles[1]),
    ]
    nobody = torch.zeros(2)
    detections = Detections(torch.zeros(2, 4), nobody, nobody.long(), SIZE, pixel_masks=masks)
    assert detections.has_masks
    assert detections.rles() == rles
    np.testing.assert_array_equal(detections.masks().numpy(), frames)
    assert (masks[1].region.x, masks[1].region.y, *masks[1].region.pixels.shape) == (40, 30, 10, 10)


def test_an_empty_mask_has_an_empty_region():
    mask = InstanceMask(SIZE, rle=encode_rle(np.zeros(SIZE, dtype=bool)))
    assert mask.region.pixels.size == 0
    frame = np.zeros(SIZE, dtype=bool)
    mask.write(frame)
    assert not frame.any()
    with pytest.raises(ValueError, match="region or an RLE"):
        InstanceMask(SIZE)


def test_detections_of_boxes_have_no_masks():
    detections = replace(found(), mask_logits=None)
    assert not detections.has_masks
    with pytest.raises(ValueError, match="have only boxes"):
        detections.rles()
    with pytest.raises(ValueError, match="no track_ids"), TrackStore() as tracks:
        store(tracks, replace(found(), track_ids=None))


def test_detections_have_a_readable_repr():
    detections = Detections(
        boxes=torch.tensor([[12.2, 30.0, 80.0, 199.6]]),
        scores=torch.tensor([0.984]),
        labels=torch.tensor([3]),
        image_size=(360, 640),
        mask_logits=torch.zeros(1, 28, 28),
        track_ids=torch.tensor([7]),
    )
    assert repr(detections) == (
        "Detections(1 instance in 640x360, with masks: #7 label 3, 0.98 at (12, 30, 80, 200))"
    )
    assert repr(detections[[]]) == "Detections(0 instances in 640x360, with masks)"
    many = repr(replace(found(100), mask_logits=None, track_ids=None))
    assert many.startswith("Detections(100 instances in 200x100: label ")
    assert many.endswith("; and 95 more)") and len(many) < 400
