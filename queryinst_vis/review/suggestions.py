"""A suggestion about what may be wrong with the tracks of a video."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from queryinst_vis.review.actions import Dismiss, Edit, to_json

Kind = Literal["fragments", "changed identity", "swapped", "duplicate", "weak", "gap"]


class Crop(NamedTuple):
    """What to look at: a track in a frame."""

    track: int
    frame: int


@dataclass(frozen=True)
class Suggestion:
    """Something that may be wrong, and how to correct it.

    Attributes:
        id: the same whenever the same is suggested about the same regions; for ``Dismiss``.
        kind: what may be wrong.
        reason: why it may be, in a sentence.
        probability: that it is wrong, 0..1.
        gain: regions that are expected to get the right identity, or to go rightly, if it is
            looked at: ``probability`` times those concerned.
        crops: two pictures that tell, to be seen side by side.
        accept: the action that corrects it.
        implied: id of a suggestion whose dismissal answers this one, too; None: there is none.
    """

    id: str
    kind: Kind
    reason: str
    probability: float
    gain: float
    crops: tuple[Crop, Crop]
    accept: Edit
    implied: str | None = None

    @property
    def answered_by(self) -> frozenset[str]:
        """Ids of the suggestions of which a dismissal answers this one."""
        return frozenset({self.id, self.implied or self.id})

    def doubted(self, share: float) -> Suggestion:
        """The same suggestion, ``share`` times as likely (0..1)."""
        return replace(self, probability=share * self.probability, gain=share * self.gain)

    @property
    def dismiss(self) -> Dismiss:
        """The action that says that nothing is wrong here."""
        return Dismiss(self.id)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it, with the actions as records for a file of actions."""
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
