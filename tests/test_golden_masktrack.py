"""Our association and track head against the numbers of two other implementations.

``masktrack_original.pth``: the original MaskTrack R-CNN's head, association loop and loss.
``tracker_mmdet.pth``: mmdetection 3.3.0's RoITrackHead and MaskTrackRCNNTracker.
Random seeded weights and inputs: they test arithmetic, not accuracy.
"""

from pathlib import Path

import pytest
import torch
from torchvision.ops import box_iou

from queryinst_vis.config import TrackingConfig
from queryinst_vis.inference.track import DEFAULT_MAX_TRACKS
from queryinst_vis.losses.track import track_loss, track_targets
from queryinst_vis.models.track_head import TrackHead, similarity_logits
from queryinst_vis.structures import Detections
from queryinst_vis.tracking import Memory, Tracker
from queryinst_vis.tracking.association import association_scores, inclusive_iou
from tests.closeness import assert_equal_to_rounding

DATA = Path(__file__).parent / "data"
MMDET_SCALE = 0.5  # network input / original frame in tracker_mmdet.pth


@pytest.fixture(scope="module")
def original():
    return torch.load(DATA / "masktrack_original.pth", weights_only=True)


@pytest.fixture(scope="module")
def original_head(original):
    head = TrackHead(in_channels=8, hidden_channels=32, embedding_channels=32)
    head.load_state_dict(original["state_dict"])
    return head.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def mmdet():
    return torch.load(DATA / "tracker_mmdet.pth", weights_only=True)


@pytest.fixture(scope="module")
def mmdet_head(mmdet):
    head = TrackHead(8, 7, 0, hidden_channels=32, embedding_channels=32, final_relu=True)
    prefix = "embed_head."
    head.load_state_dict({k.removeprefix(prefix): v for k, v in mmdet["state_dict"].items()})
    return head.eval().requires_grad_(False)


def original_detections(frame, head):
    return Detections(
        frame["boxes"], frame["scores"], frame["labels"], (360, 640),
        embeddings=head.embed(frame["roi_feats"]),
    )  # fmt: skip


def mmdet_detections(frame, result):
    embeddings = result.get("embeds", torch.empty(0, 32))
    return Detections(
        frame["bboxes"], frame["scores"], frame["labels"], (256, 384), embeddings=embeddings
    )


# --- the original ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "max_tracks", [None, DEFAULT_MAX_TRACKS], ids=["as published", "as in track"]
)
def test_raw_ids_of_every_frame_equal_the_original(original, original_head, max_tracks):
    tracker = Tracker(TrackingConfig(max_tracks=max_tracks))
    seen = []
    for frame in original["frames"]:
        tracker.update(original_detections(frame, original_head))
        assert tracker.last_raw_ids.tolist() == frame["ids"].tolist()
        assert len(tracker.memory) == frame["num_tracks_after"]
        seen += frame["ids"].tolist()
    assert len(original["frames"]) == 20
    assert -1 in seen and max(seen) == 5  # duplicates and new tracks occur


def test_scores_of_every_frame_equal_the_original(original, original_head):
    tracker, compared = Tracker(), 0
    for frame in original["frames"]:
        detections = original_detections(frame, original_head)
        if "similarity_logits" in frame:
            memory = tracker.memory
            assert_equal_to_rounding(
                similarity_logits(detections.embeddings, memory.embeddings),
                frame["similarity_logits"],
            )
            scores = association_scores(detections, memory, TrackingConfig())
            assert_equal_to_rounding(scores, frame["comprehensive_scores"])
            compared += 1
        tracker.update(detections)
    assert compared == sum(len(frame["boxes"]) > 0 for frame in original["frames"]) - 1


def test_original_duplicates_are_published_once_by_the_overtaker(original, original_head):
    """Frames 4 and 5 of the golden video hold one raw id twice."""
    tracker, with_duplicates = Tracker(), 0
    for frame in original["frames"]:
        detections = original_detections(frame, original_head)
        published = tracker.update(detections)
        last_row = {i: row for row, i in enumerate(frame["ids"].tolist()) if i >= 0}
        rows = sorted(last_row.values())
        assert published.track_ids.tolist() == frame["ids"][rows].tolist()
        assert torch.equal(published.boxes, detections.boxes[rows])
        with_duplicates += len(rows) < (frame["ids"] >= 0).sum()
    assert with_duplicates >= 2


def test_loss_per_row_equals_the_original(original, original_head):
    golden = original["loss"]
    key, reference = (original_head.embed(golden[name]) for name in ("key_feats", "ref_feats"))
    logits = similarity_logits(key, reference)
    assert_equal_to_rounding(logits, golden["logits"])
    rows = [
        track_loss([row[None]], [target[None]])
        for row, target in zip(logits, golden["target"], strict=True)
    ]
    assert_equal_to_rounding(torch.stack(rows), golden["per_row_cross_entropy"])
    positive = golden["weight"] > 0  # rows of weight 0 are no positives: we never make them
    expected = golden["per_row_cross_entropy"][positive].mean()
    assert_equal_to_rounding(track_loss([logits[positive]], [golden["target"][positive]]), expected)


# --- mmdetection ----------------------------------------------------------------------------


def test_roi_features_and_embeddings_equal_mmdetection(mmdet, mmdet_head):
    for frame, result in zip(mmdet["frames"], mmdet["results"], strict=True):
        if "roi_feats" not in result:
            assert len(frame["bboxes"]) == 0
            continue
        boxes = [frame["bboxes"] * MMDET_SCALE]
        assert_equal_to_rounding(mmdet_head.extract(frame["feats"], boxes), result["roi_feats"])
        assert_equal_to_rounding(mmdet_head(frame["feats"], boxes), result["embeds"])


def test_similarity_logits_equal_mmdetection(mmdet):
    """The memory holds the embeddings that mmdetection's tracker holds."""
    tracker, compared = Tracker(), 0
    for frame, result in zip(mmdet["frames"], mmdet["results"], strict=True):
        detections = mmdet_detections(frame, result)
        if "similarity_logits" in result:
            logits = similarity_logits(detections.embeddings, tracker.memory.embeddings)
            assert_equal_to_rounding(logits, result["similarity_logits"])
            compared += 1
        tracker.update(detections)
    assert compared == 5


def test_match_scores_differ_from_mmdetection_only_in_the_iou_convention(mmdet):
    """mmdetection measures boxes without the inclusive pixel; all other terms are equal.

    (It also remembers a track's *last* label where the original, and we, remember the first;
    with label weight 10 no track of this file changes its label.)
    """
    tracker, compared = Tracker(), 0
    for frame, result in zip(mmdet["frames"], mmdet["results"], strict=True):
        detections = mmdet_detections(frame, result)
        memory: Memory = tracker.memory
        if "match_scores" in result:
            ours = association_scores(detections, memory, TrackingConfig())
            ours[:, 1:] -= 2 * inclusive_iou(detections.boxes, memory.boxes)
            ours[:, 1:] += 2 * box_iou(detections.boxes, memory.boxes)
            assert_equal_to_rounding(ours, result["match_scores"])
            compared += 1
        tracker.update(detections)
    assert compared == 5


def test_raw_ids_and_memory_equal_mmdetection(mmdet):
    """All raw ids agree, with mmdetection's expiry after 20 frames.

    No track of these 7 frames lives long enough unseen to expire; expiry itself is tested in
    ``test_tracking_expiry.py``. What is published differs where mmdetection publishes an id twice
    (``out_ids`` of frames 4 and 5): there we keep the last owner of the id only.
    """
    tracker = Tracker(TrackingConfig(expire_after=mmdet["meta"]["num_frames_retain"]))
    duplicated = []
    for index, (frame, result) in enumerate(zip(mmdet["frames"], mmdet["results"], strict=True)):
        published = tracker.update(mmdet_detections(frame, result))
        out_ids = result["out_ids"].tolist()
        expected = result.get("raw_ids", result["out_ids"])
        assert tracker.last_raw_ids.tolist() == expected.tolist()
        assert tracker.memory.ids.tolist() == list(result["tracks_after"])
        assert sorted(published.track_ids.tolist()) == sorted(set(out_ids))
        if len(set(out_ids)) < len(out_ids):
            duplicated.append(index)
    assert duplicated == [4, 5]


def test_training_loss_equals_mmdetection(mmdet, mmdet_head):
    """RoITrackHead.loss on two pairs.

    The cross-entropy of every positive is the same, the mean over them is not: mmdetection
    divides the sum by the number of positives that the reference shows (4 of the 6 in either
    image), the original and we by the number of all positives. So each image is scaled here.
    mmdetection's positives come from an IoU sampler, ours from Hungarian matching: the file's
    are taken as given. It also embeds sampled negatives, at weight 0: they change nothing.
    """
    train = mmdet["train"]
    logits, targets = [], []
    for image, (gt, sampling) in enumerate(zip(train["gt"], train["sampling"], strict=True)):
        positives = sampling["num_pos"]
        key_boxes = sampling["sampled_bboxes"][:positives]
        key = mmdet_head([f[image, None] for f in train["key_feats"]], [key_boxes])
        reference = mmdet_head([f[image, None] for f in train["ref_feats"]], [gt["ref_bboxes"]])
        target = track_targets(gt["key_ids"][sampling["pos_assigned_gt_inds"]], gt["ref_ids"])
        assert target.tolist() == sampling["id_targets"][:positives].tolist()
        logits.append(similarity_logits(key, reference))
        targets.append(target)
    per_image = [
        track_loss([row], [target]) * len(target) / (target > 0).sum()
        for row, target in zip(logits, targets, strict=True)
    ]
    assert_equal_to_rounding(torch.stack(per_image).mean(), train["losses"]["loss_match"])
    accuracy = torch.cat([row.argmax(1) for row in logits]) == torch.cat(targets)
    assert_equal_to_rounding(100 * accuracy.float().mean()[None], train["losses"]["match_accuracy"])
