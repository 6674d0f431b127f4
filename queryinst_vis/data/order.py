"""Which item of which set sample number n is: seeded shuffling without any state."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np


class SampleOrder:
    """An endless sequence over several sets, shuffled anew in every epoch.

    One epoch takes ``round(size * weight)`` items (at least one) of each set in a random order.
    A set's items are taken through shuffled rounds, so that none comes a second time before all
    have come once, whatever the weight. Item n depends on the seed and n alone, which is what
    lets a resumed training continue exactly.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        """Describe the sets.

        Args:
            sizes: number of items of each set, at least 1.
            weights: how often each set's items are drawn, relative to one another, above 0.
            seed: 0 or more.
        """
        self._sizes = list(sizes)
        self._quotas = [
            max(round(size * weight), 1) for size, weight in zip(sizes, weights, strict=True)
        ]
        self._ends = list(accumulate(self._quotas))
        self._seed = seed

    @property
    def epoch_length(self) -> int:
        """Samples of one epoch."""
        return self._ends[-1]

    def __getitem__(self, number: int) -> tuple[int, int]:
        """``(set index, item index)`` of sample ``number`` (0 or more)."""
        epoch, place = divmod(number, self.epoch_length)
        entry = int(_permutation(self.epoch_length, self._seed, epoch)[place])
        chosen = bisect_right(self._ends, entry)
        draw = epoch * self._quotas[chosen] + entry - (self._ends[chosen] - self._quotas[chosen])
        turn, item = divmod(draw, self._sizes[chosen])
        return chosen, int(_permutation(self._sizes[chosen], self._seed, chosen, turn)[item])


@lru_cache(maxsize=32)
def _permutation(length: int, seed: int, *stream: int) -> np.ndarray:
    """The seeded permutation of ``length`` items that belongs to ``stream``."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream)).permutation(length)
