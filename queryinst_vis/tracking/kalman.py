"""Constant-velocity Kalman filters of boxes, vectorised over the tracks."""

from __future__ import annotations

import numpy as np

_POSITION_NOISE = 1 / 20  # of the box's height, per frame and per measurement, as in DeepSORT
_VELOCITY_NOISE = 1 / 160


class BoxFilter:
    """Filters for centre, width and height of M boxes, each with a velocity.

    The four coordinates are filtered independently, so that a covariance is three numbers. Noise is
    proportional to the height of the box, a proxy for the distance from the camera.

    Attributes:
        mean: ``(M, 4, 2)`` cx, cy, w, h in pixels and their velocities in pixels per frame.
        covariance: ``(M, 4, 3)`` of position, of position with velocity, of velocity.
    """

    def __init__(self) -> None:
        self.mean = np.zeros((0, 4, 2))
        self.covariance = np.zeros((0, 4, 3))

    def __len__(self) -> int:
        return len(self.mean)

    def boxes(self) -> np.ndarray:
        """``(M, 4)`` xyxy, as currently predicted."""
        cx, cy, width, height = self.mean[:, :, 0].T
        return np.stack([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2], axis=1)

    def predict(self, frames: float = 1.0) -> None:
        """Predict all boxes this many frames ahead."""
        height = self._heights(slice(None))
        position, both, velocity = np.moveaxis(self.covariance, 2, 0)
        self.mean[:, :, 0] += frames * self.mean[:, :, 1]
        self.covariance = np.stack(
            [
                position
                + 2 * frames * both
                + frames**2 * velocity
                + frames * (_POSITION_NOISE * height) ** 2,
                both + frames * velocity,
                velocity + frames * (_VELOCITY_NOISE * height) ** 2,
            ],
            axis=2,
        )

    def distances(self, boxes: np.ndarray) -> np.ndarray:
        """``(N, M)`` Mahalanobis distances between the centres of measured and predicted boxes.

        Args:
            boxes: ``(N, 4)`` xyxy.
        """
        spread = self.covariance[:, :2, 0] + (_POSITION_NOISE * self._heights(slice(None))) ** 2
        offsets = _centre_and_size(boxes)[:, None, :2] - self.mean[None, :, :2, 0]
        return np.sqrt((offsets**2 / spread).sum(axis=2))

    def update(self, rows: list[int], boxes: np.ndarray) -> None:
        """Update the filters at ``rows`` (K distinct) with measured boxes, ``(K, 4)`` xyxy."""
        position, both, velocity = np.moveaxis(self.covariance[rows], 2, 0)
        innovation = position + (_POSITION_NOISE * self._heights(rows)) ** 2
        gains = np.stack([position, both], axis=2) / innovation[..., None]
        residuals = _centre_and_size(boxes) - self.mean[rows, :, 0]
        self.mean[rows] += gains * residuals[..., None]
        self.covariance[rows] = np.stack(
            [
                (1 - gains[..., 0]) * position,
                (1 - gains[..., 0]) * both,
                velocity - gains[..., 1] * both,
            ],
            axis=2,
        )

    def append(self, boxes: np.ndarray) -> None:
        """Start filters for ``(K, 4)`` xyxy boxes, with zero velocity."""
        measured = _centre_and_size(boxes)
        height = np.maximum(measured[:, 3:], 1)
        covariance = np.zeros((len(boxes), 4, 3))
        covariance[..., 0] = (2 * _POSITION_NOISE * height) ** 2
        covariance[..., 2] = (10 * _VELOCITY_NOISE * height) ** 2
        self.mean = np.concatenate([self.mean, np.stack([measured, 0 * measured], axis=2)])
        self.covariance = np.concatenate([self.covariance, covariance])

    def keep(self, rows: np.ndarray) -> None:
        """Keep only these rows."""
        self.mean, self.covariance = self.mean[rows], self.covariance[rows]

    def _heights(self, rows: list[int] | slice) -> np.ndarray:
        return np.maximum(self.mean[rows, 3:, 0], 1)


def _centre_and_size(boxes: np.ndarray) -> np.ndarray:
    """xyxy to cx, cy, w, h, ``(N, 4)`` each."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=1)
