"""The order of samples and batches: seeded shuffling without state."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np

_BATCHES = 2**31  # stream of the batches' order; the others are numbers of epochs and sets


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


class BatchOrder:
    """Which samples make up batch n of all processes: neighbours, or those of similar shape.

    A batch is padded to its largest height and width. In windows of the seeded order, samples are
    put together that need little padding; the windows follow each other, and every sample comes
    as often and nearly as early as without.

    Args:
        batch_size: samples of a batch.
        window: samples among which those of a batch are chosen; up to ``batch_size`` there is no
            choice.
        seed: of the order of the batches within a window.
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
        self._batches = max(window // batch_size, 1)  # of a window
        self._seed = seed
        self._shape = shape
        self._current: tuple[int, list[list[int]]] = (-1, [])

    def __getitem__(self, number: int) -> list[int]:
        """Numbers of the samples of batch ``number`` (0 or more)."""
        window, place = divmod(number, self._batches)
        if self._current[0] != window:  # batches are asked for one after the other
            self._current = window, self._group(window)
        return self._current[1][place]

    def _group(self, window: int) -> list[list[int]]:
        """The batches of a window, in the order in which they come."""
        size = self._batches * self._batch_size
        samples = range(window * size, (window + 1) * size)
        if self._batches == 1:
            return [list(samples)]
        batches = group_by_shape({n: self._shape(n) for n in samples}, self._batch_size)
        return [batches[i] for i in _permutation(len(batches), self._seed, _BATCHES, window)]


def group_by_shape(shapes: dict[int, tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Put samples together that need little padding to a common height and width.

    The largest sample that is left takes those which add the least padding to it.

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
    """The seeded permutation of ``length`` items that belongs to ``stream``."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream)).permutation(length)
