"""Non-maximum suppression of boxes and of masks, in exact cases."""

from dataclasses import replace

import pytest
import torch

from queryinst_vis.config import InferenceConfig
from queryinst_vis.errors import InputError
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.models.build import build_model
from queryinst_vis.models.suppression import OVERLAPS, Suppression, suppress_boxes, suppress_masks
from queryinst_vis.structures import Detections
from tests.tiny import draw_frame, tiny_config

# IoU with the first: 1, 0.6, 0.5, 0
BOXES = torch.tensor([[0.0, 0, 8, 8], [2, 0, 10, 8], [0, 0, 4, 8], [8, 0, 16, 8]])
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6])
ONE_CLASS = torch.zeros(4, dtype=torch.int64)


def full_masks(boxes=BOXES, labels=ONE_CLASS):
    """Detections whose masks fill their boxes."""
    return Detections(
        boxes, SCORES, labels, (8, 16), mask_logits=torch.full((len(boxes), 28, 28), 10.0)
    )


@pytest.mark.parametrize(
    ("threshold", "kept"),
    [(0.7, [0, 1, 2, 3]), (0.55, [0, 2, 3]), (0.5, [0, 2, 3]), (0.49, [0, 3])],
)
def test_of_two_overlapping_detections_the_higher_score_is_kept(threshold, kept):
    assert suppress_boxes(BOXES, SCORES, ONE_CLASS, threshold).tolist() == kept
    masks = suppress_masks(full_masks(), threshold, class_agnostic=True)
    assert torch.equal(masks.boxes, BOXES[kept])


def test_suppressed_detections_suppress_nothing():
    """Each overlaps only its neighbours: the second is suppressed, so the third is kept."""
    chain = torch.tensor([[0.0, 0, 8, 8], [3, 0, 11, 8], [6, 0, 14, 8]])
    assert suppress_boxes(chain, SCORES[:3], ONE_CLASS[:3], 0.4).tolist() == [0, 2]
    found = replace(full_masks(chain, ONE_CLASS[:3]), scores=SCORES[:3])
    assert torch.equal(suppress_masks(found, 0.4, True).boxes, chain[[0, 2]])


def test_nms_does_not_depend_on_input_order_and_keeps_row_order():
    assert suppress_boxes(BOXES[:2], torch.tensor([0.2, 0.9]), ONE_CLASS[:2], 0.5).tolist() == [1]
    assert suppress_boxes(BOXES, SCORES.flip(0), ONE_CLASS, 0.99).tolist() == [0, 1, 2, 3]


def test_mask_nms_is_class_agnostic_only_on_request():
    labels = torch.tensor([0, 1, 0, 1])
    assert suppress_boxes(BOXES, SCORES, labels, 0.4).tolist() == [0, 1, 3]
    found = full_masks(labels=labels)
    assert torch.equal(suppress_masks(found, 0.4, class_agnostic=False).boxes, BOXES[[0, 1, 3]])
    assert torch.equal(suppress_masks(found, 0.4, class_agnostic=True).boxes, BOXES[[0, 3]])


@pytest.mark.parametrize(
    ("threshold", "overlap", "after_boxes", "after_masks"),
    [(None, "boxes", 4, 4), (None, "masks", 4, 4), (0.4, "boxes", 2, 2), (0.4, "masks", 4, 2)],
)
def test_the_config_decides_whether_boxes_or_masks_are_compared(
    threshold, overlap, after_boxes, after_masks
):
    assert overlap in OVERLAPS
    suppression = Suppression(threshold, overlap, class_agnostic=False)
    found = full_masks()
    found = found[suppression.of_boxes(found.boxes, found.scores, found.labels)]
    assert (len(found), len(suppression.of_masks(found))) == (after_boxes, after_masks)


def test_mask_nms_keeps_detections_without_masks():
    boxes = Detections(BOXES, SCORES, ONE_CLASS, (8, 16))
    assert len(Suppression(0.4, "masks", True).of_masks(boxes)) == 4


def test_mask_nms_keeps_disjoint_masks_with_overlapping_boxes():
    found = full_masks(BOXES[[0, 0]], ONE_CLASS[:2])
    found.mask_logits[0, :, 14:] = found.mask_logits[1, :, :14] = -10.0
    assert suppress_boxes(found.boxes, SCORES[:2], ONE_CLASS[:2], 0.5).tolist() == [0]
    assert len(suppress_masks(found, 0.0, True)) == 2


def test_nms_accepts_no_detections_and_empty_masks():
    nothing = full_masks()[:0]
    assert len(suppress_masks(nothing, 0.5, True)) == 0
    assert suppress_boxes(nothing.boxes, nothing.scores, nothing.labels, 0.5).tolist() == []
    invisible = replace(full_masks(), mask_logits=torch.full((4, 28, 28), -10.0))
    assert len(suppress_masks(invisible, 0.0, True)) == 4


# --- in the detector ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowded():
    """A model whose five queries all detect the whole image."""
    torch.manual_seed(0)
    model = build_model(tiny_config()).eval()
    with torch.no_grad():
        for stage in model.stages:
            stage.box_predictor.weight.zero_()
            stage.box_predictor.bias.zero_()
    return model


def detect(model, frames=1, **inference):
    config = tiny_config()
    config.inference = InferenceConfig(score_threshold=0.0, max_per_image=100, **inference)
    return Detector(model, config).detect_frames([draw_frame(i) for i in range(frames)])


@pytest.mark.parametrize("overlap", ["boxes", "masks"])
def test_of_equal_boxes_one_per_class_is_kept(crowded, overlap, monkeypatch):
    everything, _ = detect(crowded, frames=2)
    assert len(everything) == 10
    if overlap == "masks":  # equal boxes, and masks that fill them
        monkeypatch.setattr(
            crowded,
            "mask_logits",
            lambda stage, output, picks, labels=None: torch.full(
                (sum(map(len, picks)), *([] if labels is not None else [2]), 28, 28), 10.0
            ),
        )
    found, other = detect(crowded, frames=2, nms_threshold=0.5, nms_overlap=overlap)
    assert sorted(found.labels.tolist()) == sorted(other.labels.tolist()) == [0, 1]
    assert len(found.mask_logits) == len(found.embeddings) == 2
    for label, score in zip(found.labels.tolist(), found.scores, strict=True):
        assert score == everything.scores[everything.labels == label].max()


def test_masks_are_not_computed_for_suppressed_boxes(crowded, monkeypatch):
    asked, masks_of = [], crowded.mask_logits

    def count(stage, output, picks, labels=None):
        asked.append(sum(map(len, picks)))
        return masks_of(stage, output, picks, labels)

    monkeypatch.setattr(crowded, "mask_logits", count)
    detect(crowded, one_label_per_query=True)
    detect(crowded, one_label_per_query=True, nms_threshold=0.5)
    assert asked[0] == 5 and asked[1] <= 2


def test_video_tracking_suppresses_duplicates_across_classes(crowded):
    config = tiny_config()
    config.inference.nms_threshold, config.inference.nms_overlap = 0.0, "masks"
    found = VideoTracker(Detector(crowded, config)).update(draw_frame(0))
    overlaps = found.masks().flatten(1).float()
    overlaps = overlaps @ overlaps.T
    assert (overlaps - overlaps.diag().diag() == 0).all()


def test_by_default_nothing_is_suppressed():
    assert InferenceConfig().nms_threshold is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nms_threshold": 1.5}, r"inference\.nms_threshold: must be at most 1, is 1\.5"),
        ({"nms_overlap": "pixels"}, "inference.nms_overlap 'pixels': choose one of boxes, masks"),
    ],
)
def test_bad_nms_settings_are_refused_by_name(crowded, settings, message):
    with pytest.raises(InputError, match=message):
        detect(crowded, **settings)
