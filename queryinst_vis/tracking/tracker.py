"""The online tracker: assigns identities to the detections of a frame (paper 3.5)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from queryinst_vis.config import TrackingConfig, check_numbers
from queryinst_vis.errors import InputError
from queryinst_vis.structures import Detections
from queryinst_vis.tracking.memory import Memory
from queryinst_vis.tracking.rules import DEFAULT, Rule, find_rule
from queryinst_vis.utils.device import plain_defaults


class Tracker:
    """Online association of detections, frame by frame.

    Args:
        settings: rule, weights and limits; None: the paper's rule, which never drops tracks.

    Attributes:
        embedding: the embeddings that the rule uses: ``"track_head"``, ``"query"`` (of the
            detector) or None, for boxes only.
        last_raw_ids: ``(N,)`` int64 ids assigned by the rule to the N detections of the last
            ``update``, on the CPU: -1 for a detection without a track or that lost it to an
            earlier detection; one that lost its track to a later detection still has its id.

    Raises:
        InputError: unknown rule, a limit or displacement too small, or a threshold out of range or
            for a rule without one.

    Example::

        detector, tracker = Detector.from_pretrained("people"), Tracker()
        for frame in VideoReader("street.mp4"):
            [detections] = detector.detect_frames([frame])
            print(tracker.update(detections).track_ids)
    """

    @plain_defaults()
    def __init__(self, settings: TrackingConfig | None = None) -> None:
        settings = settings or TrackingConfig()
        self._rule = find_rule(settings.rule)
        _check(settings, self._rule)
        if settings.match_threshold is None:
            settings = replace(settings, match_threshold=self._rule.match_threshold)
        self.embedding = self._rule.embedding
        self._settings = settings
        self.reset()

    @property
    def memory(self) -> Memory | None:
        """The tracks; None if the rule has another kind of state."""
        return self._associator.memory

    @plain_defaults()
    def reset(self) -> None:
        """Reset the state: the next frame is the first of a video, and ids start at 0."""
        self._associator = self._rule.begin(self._settings)
        self._frames = 0
        self._time: float | None = None
        self.last_raw_ids = torch.empty(0, dtype=torch.int64)

    @plain_defaults()
    def forget(self) -> None:
        """Drop all tracks, as at a hard cut; ids are not reused."""
        self._associator.forget()

    def skip(self) -> None:
        """Count a frame without detecting in it, such as a damaged one: tracks only grow older."""
        if self.memory is not None:
            self.memory.frame += 1

    @plain_defaults()
    def update(self, detections: Detections, time: float | None = None) -> Detections:
        """Assign identities to the detections of the next frame.

        Args:
            detections: N detections in pixels of the original frame, on any device, with
                embeddings if the rule uses them. Greedy rules process them in this order.
            time: of the frame in seconds from any origin; None: unknown. Pass it for all
                frames of a video or for none; ``tracking.expire_seconds`` needs it.

        Returns:
            The detections with an identity, in the same order and on the same device, with
            distinct ``track_ids`` >= 0: of several detections with the same raw id only the last
            is returned, which is the one that the rule selected for the track.

        Raises:
            InputError: missing embeddings, or of another width than those in memory; non-finite
                numbers; a time that is not later than that of the previous frame, or missing for
                some frames.
        """
        self._check_time(time)
        observed = self._observe(detections)
        self.last_raw_ids = self._associator.assign(observed, time)
        self._frames, self._time = self._frames + 1, time
        published = _last_of_each(self.last_raw_ids)
        ids = self.last_raw_ids[published]
        device = detections.boxes.device
        # with already pasted masks
        everything = len(ids) == len(detections)
        tracked = detections[:] if everything else detections[published.to(device)]
        tracked.track_ids = ids.to(device)
        return tracked

    def _check_time(self, time: float | None) -> None:
        where = f"tracking: frame {self._frames}"
        if time is not None and not math.isfinite(time):
            raise InputError(f"{where}: its time must be a number of seconds, got {time}")
        if time is None and self._settings.expire_seconds is not None:
            raise InputError(
                f"{where}: tracking.expire_seconds needs the times of the frames, which are not "
                "known here; set it to null, or use tracking.expire_after"
            )
        if self._frames > 0 and (time is None) != (self._time is None):
            raise InputError(f"{where}: give the times of all frames of a video or of none")
        if time is not None and self._time is not None and time <= self._time:
            raise InputError(
                f"{where}: its time, {time} s, must be later than the previous frame's,"
                f" {self._time} s; reset() the tracker between videos"
            )

    def _observe(self, detections: Detections) -> Detections:
        """The validated inputs of association, as float32 on the CPU."""
        if self.embedding is not None and detections.embeddings is None:
            raise InputError(
                "tracking: the detections have no embeddings; use a model with a track head "
                "(model.track.enabled=true), or the detector's own (tracking.rule=query), or boxes "
                "alone (tracking.rule=bytetrack)"
            )
        read = ["boxes", "scores", *(["embeddings"] if self.embedding is not None else [])]
        floats = {name: getattr(detections, name).detach().float().cpu() for name in read}
        for name, values in floats.items():
            if not np.isfinite(values.numpy()).all():
                raise InputError(
                    f"tracking: frame {self._frames} has {name} that are not finite;"
                    " check the weights and the input"
                )
        return Detections(
            labels=detections.labels.cpu(), image_size=detections.image_size, **floats
        )


def _last_of_each(ids: Tensor) -> Tensor:
    """Ascending rows of the last detection of each id >= 0."""
    rows = {track_id: row for row, track_id in enumerate(ids.tolist()) if track_id >= 0}
    return torch.tensor(sorted(rows.values()), dtype=torch.int64)


def _check(settings: TrackingConfig, rule: Rule) -> None:
    """Raise an InputError for settings that the rule cannot work with."""
    check_numbers(settings, "tracking")
    if settings.match_threshold is None:
        return
    if rule.match_threshold is None:
        raise InputError(
            f"tracking.match_threshold: rule '{settings.rule or DEFAULT}' has none; leave it null"
        )
    if rule.embedding is None and settings.match_threshold <= 0:
        raise InputError(
            "tracking.match_threshold: must be an IoU above 0 for rule "
            f"'{settings.rule}', is {settings.match_threshold}"
        )
