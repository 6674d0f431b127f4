"""The order of samples and batches: seeded shuffling without state."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np

_BATCHES = 2**31  # random stream of the batch order, beyond all epoch and set numbers


class SampleOrder:
    """An endless sequence over several sets, reshuffled every epoch.

    One epoch contains ``round(size * weight)`` items (at least one) of each set in random order.
    For any weight, no item of a set is repeated before all have been used. Item n depends only on
    the seed and n, so a resumed run continues exactly.
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
        """Number of samples per epoch."""
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

    A batch is padded to its largest height and width. To reduce padding, samples are grouped within
    windows of the seeded order, so that every sample is still used equally often and at about the
    same time.

    Args:
        batch_size: samples per batch.
        window: number of consecutive samples to group; up to ``batch_size``: no grouping.
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
    """Group samples into batches with little padding to a common height and width.

    Greedy: the largest remaining sample is grouped with those that add the least padding.

    Args:
        shapes: ``(height, width)`` by sample; a multiple of ``batch_size`` samples.
        batch_size: samples per batch.
    """
    remaining = sorted(shapes, key=lambda n: (-shapes[n][0] * shapes[n][1], n))
    batches = []
    while remaining:
        batch = [remaining.pop(0)]
        height, width = shapes[batch[0]]
        for _ in range(batch_size - 1):

            def padding(n: int, height: int = height, width: int = width) -> int:
                rows, columns = shapes[n]
                return max(height, rows) * max(width, columns) - rows * columns

            chosen = min(remaining, key=padding)
            remaining.remove(chosen)
            batch.append(chosen)
            height, width = max(height, shapes[chosen][0]), max(width, shapes[chosen][1])
        batches.append(batch)
    return batches


@lru_cache(maxsize=32)
def _permutation(length: int, seed: int, *stream: int) -> np.ndarray:
    """The seeded permutation of ``length`` items for ``stream``."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream)).permutation(length)
