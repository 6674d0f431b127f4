"""Tolerances for two computations of the same values on any machine."""

import torch
from torch import Tensor

from queryinst_vis.structures import Detections

SHARE = 5e-5
"""Of the largest number compared. Kernels differ from CPU to CPU and add up in another order, so
the error of an output grows with the size of what was added up."""

PIXELS = 0.02
"""Smallest tolerance of boxes: every stage starts from the boxes of the previous one, and of
random weights some multiply a rounding error by a thousand."""

EMBEDDINGS = 2e-4
"""Smallest share for embeddings, which come from RoIs, too."""

ROI_LOGITS = 4e-3
"""Smallest tolerance of logits that come from RoIs, since the boxes of all stages move them. It
changes a probability by at most 1e-3."""


def assert_equal_to_rounding(
    actual: Tensor, expected: Tensor, share: float = SHARE, least: float = 1e-4
) -> None:
    """Every difference is at most ``share`` of the largest expected magnitude, or ``least``.

    Logits up to 20 may differ by 1e-3, boxes in a frame of 1000 pixels by 0.05 pixels.
    """
    largest = expected.abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=max(share * largest, least))


def assert_equal_detections(actual: Detections, expected: Detections, share: float = SHARE) -> None:
    """The same labels and track ids; boxes, scores, masks and embeddings equal to rounding."""
    assert actual.image_size == expected.image_size
    assert actual.mask_threshold == expected.mask_threshold
    for name in ("labels", "track_ids"):
        ours, theirs = getattr(actual, name), getattr(expected, name)
        assert (ours is None) == (theirs is None), name
        assert ours is None or ours.tolist() == theirs.tolist(), name
    assert_equal_to_rounding(actual.scores, expected.scores, share, least=1e-5)
    assert_equal_to_rounding(actual.boxes, expected.boxes, share, least=PIXELS)
    assert_equal_to_rounding(actual.mask_logits, expected.mask_logits, share, least=ROI_LOGITS)
    if expected.embeddings is not None:
        share = max(share, EMBEDDINGS)
        assert_equal_to_rounding(actual.embeddings, expected.embeddings, share)
