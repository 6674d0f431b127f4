"""Information of tracks that is lost in a format."""

from __future__ import annotations

from collections import Counter


class Losses(Counter[str]):
    """Counts what was dropped or changed, by description; ``str`` lists the counts.

    Example::

        losses = Losses()
        losses["masks with holes, which are filled"] += 3
        print(losses)  # 3 masks with holes, which are filled
    """

    def __str__(self) -> str:
        return "; ".join(f"{count} {what}" for what, count in self.items() if count)
