"""Tolerances for two computations of the same values on any machine."""

import torch
from torch import Tensor

SHARE = 5e-5
"""Of the largest number compared. Kernels differ from CPU to CPU and add up in another order, so
the error of an output grows with the size of what was added up."""

ROI_LOGITS = 1e-3
"""Smallest tolerance of logits that come from RoIs: rounding moves the boxes of all stages, and
each RoIAlign with them. It changes a probability by at most 2.5e-4."""


def assert_equal_to_rounding(
    actual: Tensor, expected: Tensor, share: float = SHARE, least: float = 1e-4
) -> None:
    """Every difference is at most ``share`` of the largest expected magnitude, or ``least``.

    Logits up to 20 may differ by 1e-3, boxes in a frame of 1000 pixels by 0.05 pixels.
    """
    largest = expected.abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=max(share * largest, least))
