"""Validation and decoding of many untrusted COCO compressed run lengths at a time.

pycocotools' C code does not validate: runs that do not fill the frame cause endless loops in
``iou`` and ``merge``, too many runs overflow a buffer, text that ends within a number is read out
of bounds, and a zero-length run can end a comparison early. ``sum_runs`` detects all of these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_PIXELS = 2**29 - 1
"""Maximum number of pixels of a mask: what numbers of six characters can express."""

_LONGEST = 6
_FIRST, _FIRST_OF_MORE, _LAST = (np.uint8(ord(character)) for character in "0Po")
_COUNTS = re.compile(r"(?:[P-o]{0,5}[0-O])+")


def _by_last_pair() -> np.ndarray:
    """Value of a number by its last two characters ``ab``, at ``256 * ord(a) + ord(b)``, int32.

    If ``a`` ends the previous number, it is ignored.
    """
    groups = np.arange(256) - int(_FIRST)
    low = groups & 31
    signed = (low ^ 16) - 16
    goes_on = (groups >= 32)[:, None]
    return np.where(goes_on, signed << 5 | low[:, None], signed).astype(np.int32).ravel()


_BY_LAST_PAIR = _by_last_pair()


@dataclass(frozen=True)
class RunSums:
    """Sums of the run lengths of N masks, each field ``(N,)`` int64.

    Attributes:
        totals: sum of all runs; equals the number of pixels of the frame for a valid mask.
        areas: sum of the foreground runs.
        shortest: negative if a run is, 0 if a run after the first is empty (the first is empty
            if a mask starts with foreground), otherwise at least 1.
    """

    totals: np.ndarray
    areas: np.ndarray
    shortest: np.ndarray


def is_counts(text: str) -> bool:
    """Whether a text is complete and consists of COCO's characters, with numbers below 2**29."""
    return _COUNTS.fullmatch(text) is not None


def are_counts(texts: Sequence[str]) -> np.ndarray | None:
    """``(N,)`` int64 number of runs of each text; None if any text is not ``is_counts``."""
    joined = "".join(texts)
    if not joined.isascii() or not all(texts):
        return None
    codes = np.frombuffer(joined.encode("ascii"), np.uint8)
    ends = np.cumsum([len(text) for text in texts])
    last = codes < _FIRST_OF_MORE
    if not last[ends - 1].all() or codes.min() < _FIRST or codes.max() > _LAST:
        return None
    # each window of _LONGEST = 6 characters must contain the end of a number: windows of 2, 4, 6
    of_two = last[1:] | last[:-1]
    of_four = of_two[2:] | of_two[:-2]
    if not (of_four[2:] | of_two[:-4]).all():
        return None
    return np.diff(_count_before(last, ends), prepend=0)


def _count_before(flags: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """``(N,)`` int64: how many of the bools ``flags[:end]`` are true, for each of N ends.

    Counts the bits of whole words first, which is faster than adding up bools.
    """
    packed = np.packbits(flags, bitorder="little")
    words = np.zeros(len(packed) // 8 + 1, dtype="<u8")
    words.view(np.uint8)[: len(packed)] = packed
    before = np.concatenate(([0], np.cumsum(np.bitwise_count(words), dtype=np.int64)))
    word, bit = np.divmod(ends, 64)
    lower = (np.uint64(1) << bit.astype(np.uint64)) - np.uint64(1)
    return before[word] + np.bitwise_count(words[word] & lower)


def decode_runs(text: str) -> np.ndarray:
    """Decode a mask's text to ``(runs,)`` int64 run lengths, alternating, background first.

    Raises:
        ValueError: the text is not ``is_counts``.
    """
    runs = _numbers([text])[0].astype(np.int64)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def sum_runs(texts: Sequence[str]) -> RunSums:
    """Decode compressed run lengths and sum them per mask.

    Starting with the fourth number of a mask, COCO stores the difference to the run two places
    earlier, so that runs are cumulative sums over every other number. Background and
    foreground alternate, starting with background.

    Raises:
        ValueError: a text is not ``is_counts``.
    """
    numbers, ends = _numbers(texts)
    starts = np.concatenate(([0], ends[:-1]))
    first = numbers[starts].astype(np.int64)
    third = starts + 2
    has_third = third < ends
    numbers[starts] += 1  # an empty first run is valid; corrected in the totals
    numbers[third[has_third]] -= numbers[starts[has_third]]  # the third is not a difference
    even, shortest_even = _sum_every_other(numbers, starts, ends, 0)
    odd, shortest_odd = _sum_every_other(numbers, starts, ends, 1)
    return RunSums(
        totals=even + odd - 1,
        areas=np.where(starts % 2 == 0, odd, even),
        shortest=np.minimum.reduce([shortest_even, shortest_odd, np.where(first < 0, first, 1)]),
    )


def _numbers(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of all texts in one int32 array, and ``(N,)`` the end of each text's numbers.

    A character holds five bits, least significant first; bit 5 is the continuation bit,
    and bit 4 of the last character is the sign. Most numbers have one or two characters and are
    decoded with a table; longer ones are decoded character by character.
    """
    # a UnicodeEncodeError is a ValueError; two characters so that all have two before them
    codes = np.frombuffer(("00" + "".join(texts)).encode("ascii"), np.uint8)
    text_ends = np.cumsum([len(text) for text in texts])
    more = codes >= _FIRST_OF_MORE
    if not all(texts) or more[text_ends + 1].any() or codes.min() < _FIRST or codes.max() > _LAST:
        raise ValueError("not COCO run lengths")
    last = np.flatnonzero(~more[2:])  # last character of each number
    pairs = codes[1:-1].astype(np.uint16)
    pairs <<= 8
    pairs |= codes[2:]
    numbers = _BY_LAST_PAIR.take(pairs.take(last))
    longer = np.flatnonzero((more[1:-1] & more[:-2]).take(last))
    for before in range(2, _LONGEST):
        at = last[longer] + 2 - before
        numbers[longer] = (numbers[longer] << 5) | ((codes[at] - _FIRST) & 31)
        longer = longer[more[at - 1]]
    if len(longer):
        raise ValueError("not COCO run lengths")
    return numbers, np.searchsorted(last, text_ends)


def _sum_every_other(
    numbers: np.ndarray, starts: np.ndarray, ends: np.ndarray, which: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sum and minimum of each mask's runs at even (``which`` 0) or odd places of ``numbers``."""
    running = np.cumsum(numbers[which::2], dtype=np.int64)
    begin, end = ((places - which + 1) // 2 for places in (starts, ends))
    sums = np.zeros(len(starts), dtype=np.int64)
    least = np.full(len(starts), 1 << 30, dtype=np.int64)
    some = np.flatnonzero(end > begin)
    if len(some):
        begin, end = begin[some], end[some]
        before = np.where(begin > 0, running[begin - 1], 0)
        sums[some] = np.add.reduceat(running, begin) - before * (end - begin)
        least[some] = np.minimum.reduceat(running, begin) - before
    return sums, least
