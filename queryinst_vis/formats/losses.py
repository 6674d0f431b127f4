"""What a format cannot hold of the tracks of a video."""

from __future__ import annotations

from collections import Counter


class Losses(Counter[str]):
    """Counts what was left out or changed, by what it is; reads as a list of these.

    Example::

        losses = Losses()
        losses["masks with holes, which are filled"] += 3
        print(losses)  # 3 masks with holes, which are filled
    """

    def __str__(self) -> str:
        return "; ".join(f"{count} {what}" for what, count in self.items() if count)
