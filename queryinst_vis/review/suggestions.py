"""Suggested corrections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from queryinst_vis.review.actions import Dismiss, Edit, to_json

Kind = Literal["fragments", "changed identity", "swapped", "duplicate", "weak", "gap"]


class Crop(NamedTuple):
    """A track in a frame, shown as a crop around its box."""

    track: int
    frame: int


@dataclass(frozen=True)
class Suggestion:
    """A probable error, and the action that corrects it.

    Attributes:
        id: identifier for ``Dismiss``, which stays the same while the regions concerned do.
        kind: kind of error.
        reason: one-line explanation.
        probability: probability of the error, 0..1.
        gain: expected number of regions that it corrects: ``probability`` times the number of
            regions concerned, and a factor for kinds that may take further corrections.
        crops: two crops to compare.
        accept: action that corrects the error.
        implied_by: id of another suggestion whose dismissal dismisses this one, too; or None.
    """

    id: str
    kind: Kind
    reason: str
    probability: float
    gain: float
    crops: tuple[Crop, Crop]
    accept: Edit
    implied_by: str | None = None

    @property
    def dismissed_by(self) -> frozenset[str]:
        """Ids of the suggestions whose dismissal dismisses this one."""
        return frozenset({self.id, self.implied_by or self.id})

    def scaled(self, factor: float) -> Suggestion:
        """The suggestion with probability and gain multiplied by ``factor``, 0..1."""
        return replace(self, probability=factor * self.probability, gain=factor * self.gain)

    @property
    def dismiss(self) -> Dismiss:
        """The action that dismisses the suggestion."""
        return Dismiss(self.id)

    def to_json(self) -> dict[str, Any]:
        """The JSON object, with actions as in ``actions.to_json``."""
        return {
            "id": self.id,
            "kind": self.kind,
            "reason": self.reason,
            "probability": round(self.probability, 3),
            "gain": round(self.gain, 2),
            "crops": [crop._asdict() for crop in self.crops],
            "accept": to_json(self.accept),
            "dismiss": to_json(self.dismiss),
        }
