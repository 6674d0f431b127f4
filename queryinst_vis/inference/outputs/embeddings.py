"""The mean embedding of each track, for re-identification in other videos."""

from __future__ import annotations

from collections import Counter

import numpy as np

from queryinst_vis.structures import Detections

_MOST = 10_000  # maximum number of tracks, about 1 KB each


class MeanEmbeddings:
    """Averages the embeddings of each track over its frames, for the first 10,000 tracks."""

    def __init__(self) -> None:
        self._sums: dict[int, np.ndarray] = {}
        self._frames: Counter[int] = Counter()

    def add(self, detections: Detections) -> None:
        """Add the tracked detections of a frame, if they have embeddings."""
        if detections.embeddings is None or detections.track_ids is None:
            return
        rows = detections.embeddings.detach().float().cpu().numpy()
        for track_id, row in zip(detections.track_ids.tolist(), rows, strict=True):
            if track_id in self._sums:
                self._sums[track_id] += row
            elif len(self._sums) < _MOST:
                self._sums[track_id] = row.copy()
            else:
                continue
            self._frames[track_id] += 1

    def by_track(self) -> dict[str, list[float]]:
        """``(D,)`` mean embedding by track id, rounded to the precision of float16."""
        return {
            str(track_id): [float(f"{value:.4g}") for value in total / self._frames[track_id]]
            for track_id, total in sorted(self._sums.items())
        }
