"""The order of samples and batches: seeded shuffling without state."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np

_BATCHES = 2**31  # random stream of the batch order; the others are epoch and set numbers


class SampleOrder:
    """An endless sequence over several sets, reshuffled every epoch.

    One epoch contains ``round(size * weight)`` items (at least one) of each set in random order.
    The items of a set are taken in shuffled rounds, so that none is repeated before all
    have been used, whatever the weight. Item n depends only on the seed and n, so a resumed
    run continues exactly.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        """Describe the sets.

        Args:
            sizes: number of items of each set, at least 1.
            weights: relative sampling weights of the items of each set, above 0.
            seed: non-negative.
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


class BatchOrder:
    """The samples of each batch: consecutive ones, or those with similar shapes.

    A batch is padded to its largest height and width. Within windows of the seeded order, samples
    are grouped to reduce padding; every sample is used as often, and at about the same time, as
    without.

    Args:
        batch_size: samples per batch.
        window: number of samples that are grouped; no grouping up to ``batch_size``.
        seed: for the order of the batches within a window.
        shape: ``(height, width)`` of a sample by its number, without loading it.
    """

    def __init__(
        self,
        batch_size: int,
        window: int,
        seed: int,
        shape: Callable[[int], tuple[int, int]],
    ) -> None:
        self._batch_size = batch_size
        self._batches = max(window // batch_size, 1)  # per window
        self._seed = seed
        self._shape = shape
        self._current: tuple[int, list[list[int]]] = (-1, [])

    def __getitem__(self, number: int) -> list[int]:
        """Numbers of the samples of batch ``number`` (0 or more)."""
        window, place = divmod(number, self._batches)
        if self._current[0] != window:  # batches are requested in order
            self._current = window, self._group(window)
        return self._current[1][place]

    def _group(self, window: int) -> list[list[int]]:
        """The batches of a window, in order."""
        size = self._batches * self._batch_size
        samples = range(window * size, (window + 1) * size)
        if self._batches == 1:
            return [list(samples)]
        batches = group_by_shape({n: self._shape(n) for n in samples}, self._batch_size)
        return [batches[i] for i in _permutation(len(batches), self._seed, _BATCHES, window)]


def group_by_shape(shapes: dict[int, tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Group samples so that they need little padding to a common height and width.

    Greedy: the largest remaining sample is grouped with those that add the least padding.

    Args:
        shapes: ``(height, width)`` of each sample; as many as fill whole batches.
        batch_size: samples of a batch.
    """
    left = sorted(shapes, key=lambda n: (-shapes[n][0] * shapes[n][1], n))
    batches = []
    while left:
        batch = [left.pop(0)]
        height, width = shapes[batch[0]]
        for _ in range(batch_size - 1):

            def padding(n: int, height: int = height, width: int = width) -> int:
                own_height, own_width = shapes[n]
                return max(height, own_height) * max(width, own_width) - own_height * own_width

            chosen = min(left, key=padding)
            left.remove(chosen)
            batch.append(chosen)
            height, width = max(height, shapes[chosen][0]), max(width, shapes[chosen][1])
        batches.append(batch)
    return batches


@lru_cache(maxsize=32)
def _permutation(length: int, seed: int, *stream: int) -> np.ndarray:
    """The seeded permutation of ``length`` items for ``stream``."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream)).permutation(length)
