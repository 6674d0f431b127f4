"""Masks decoded once and compared many times, by the C functions of pycocotools.

pycocotools' Python functions decode the compressed counts of a mask on every call. The C functions
that they wrap take decoded run lengths; the extension module exports them on Linux and macOS. Where
they are missing (Windows), ``decode_valid`` returns None, and callers use the Python functions,
which give the same values.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, NamedTuple, NoReturn

import numpy as np
from pycocotools import _mask  # type: ignore[attr-defined]  # missing in its stubs

from queryinst_vis.masks.run_lengths import are_counts

_RECORD = np.dtype([("height", "u8"), ("width", "u8"), ("length", "u8"), ("runs", "u8")])
"""``RLE`` of pycocotools' maskApi.h; ``runs`` points to uint32."""

FrameValues = tuple[int, np.ndarray, np.ndarray, np.ndarray]
"""Index of a frame, ``(n,)`` rows, ``(m,)`` columns, and ``(n, m)`` values, one per pair."""

PAIRS = 1 << 20
"""Approximate number of mask pairs that ``frame_ioas`` yields at a time, to bound its memory."""

_HEAD = "0000"
"""Four runs of 0 before the first mask, so that every mask has predecessors to difference with."""


class _Functions(NamedTuple):
    """Functions of pycocotools' maskApi.h."""

    decode: Any
    free: Any
    iou: Any


@dataclass(frozen=True)
class DecodedMasks:
    """An array of valid masks of one frame size; elements may be empty slots.

    Attributes:
        records: array of ``_RECORD``; ``length`` is 0 in empty slots.
        memory: the arrays that the records point into.
    """

    records: np.ndarray
    memory: tuple[np.ndarray, ...]

    def __getitem__(self, index: Any) -> DecodedMasks:
        return DecodedMasks(self.records[index], self.memory)

    def __reduce__(self) -> NoReturn:
        raise TypeError("decoded masks hold pointers into this process's memory")

    @property
    def present(self) -> np.ndarray:
        """Bool array: which slots hold a mask."""
        return self.records["length"] > 0

    def placed(self, places: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> DecodedMasks:
        """A new array of ``shape`` with these ``(N,)`` masks at the indices ``places``."""
        records = np.zeros(shape, dtype=_RECORD)
        records[places] = self.records
        return DecodedMasks(records, self.memory)


@dataclass(frozen=True)
class FrameIoas:
    """Intersections over area (IoA) of the masks of two sets of tracks in F frames: P pairs.

    Attributes:
        frames: ``(F,)`` indices of frames that show tracks of both sets.
        rows, columns: indices of the first and second set's tracks in these frames, concatenated.
        num_rows, num_columns: ``(F,)`` number of tracks of each set in each frame.
        ioas: ``(P,)`` float64 intersections divided by the area of the first set's mask, 0..1
            (pycocotools' IoU with ``iscrowd``), frame by frame, and column by column in a frame.
    """

    frames: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    num_rows: np.ndarray
    num_columns: np.ndarray
    ioas: np.ndarray

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``(P,)`` frames, rows and columns of the pairs."""
        counts = self.num_rows * self.num_columns
        frame = np.repeat(np.arange(len(counts)), counts)
        index_in_frame = np.arange(len(frame)) - np.repeat(np.cumsum(counts) - counts, counts)
        column, row = np.divmod(index_in_frame, self.num_rows[frame])
        row += (np.cumsum(self.num_rows) - self.num_rows)[frame]
        column += (np.cumsum(self.num_columns) - self.num_columns)[frame]
        return self.frames[frame], self.rows[row], self.columns[column]

    def by_frame(self, values: np.ndarray) -> Iterator[FrameValues]:
        """Split ``(P,)`` values of the pairs into frames."""
        row, column, pair = 0, 0, 0
        for frame, n, m in zip(
            self.frames.tolist(), self.num_rows.tolist(), self.num_columns.tolist(), strict=True
        ):
            in_frame = values[pair : pair + n * m].reshape(m, n).T
            yield frame, self.rows[row : row + n], self.columns[column : column + m], in_frame
            row, column, pair = row + n, column + m, pair + n * m


def frame_ioas(own: DecodedMasks, others: DecodedMasks) -> Iterator[FrameIoas]:
    """Compare the masks of two sets of tracks in every frame that shows both.

    Args:
        own: ``(N, frames)`` masks.
        others: ``(M, frames)`` masks.
    """
    shown, others_shown = own.present.T, others.present.T
    frames = np.flatnonzero(shown.any(axis=1) & others_shown.any(axis=1))
    num_pairs = np.cumsum(shown[frames].sum(axis=1) * others_shown[frames].sum(axis=1))
    for part in np.split(frames, np.flatnonzero(np.diff(num_pairs // PAIRS)) + 1):
        if part.size:
            yield _compare(own.records.T[part], others.records.T[part], part)


def _compare(own: np.ndarray, others: np.ndarray, frames: np.ndarray) -> FrameIoas:
    """Compare ``(F, N)`` with ``(F, M)`` records."""
    shown, others_shown = own["length"] > 0, others["length"] > 0
    records, others_records = own[shown], others[others_shown]
    num_rows, num_columns = shown.sum(axis=1), others_shown.sum(axis=1)
    ioas = np.empty(num_rows @ num_columns)
    crowd = np.ones(num_columns.max(), dtype=np.uint8)
    iou, crowd_at = c_functions().iou, crowd.ctypes.data
    at, others_at, to = (array.ctypes.data for array in (records, others_records, ioas))
    for n, m in zip(num_rows.tolist(), num_columns.tolist(), strict=True):
        iou(at, others_at, n, m, crowd_at, to)
        at += n * records.itemsize
        others_at += m * records.itemsize
        to += n * m * ioas.itemsize
    rows, columns = np.nonzero(shown)[1], np.nonzero(others_shown)[1]
    return FrameIoas(frames, rows, columns, num_rows, num_columns, ioas)


def stack(rows: Sequence[DecodedMasks]) -> DecodedMasks:
    """Stack arrays of masks along a new first axis."""
    memory = {id(array): array for row in rows for array in row.memory}
    return DecodedMasks(np.stack([row.records for row in rows]), tuple(memory.values()))


def concatenate(parts: Sequence[DecodedMasks | None]) -> DecodedMasks | None:
    """Concatenate ``(n,)`` arrays of masks; None if there is none or any is None."""
    known = [part for part in parts if part is not None]
    if not parts or len(known) < len(parts):
        return None
    return DecodedMasks(
        np.concatenate([part.records for part in known]),
        tuple(chain.from_iterable(part.memory for part in known)),
    )


def decode_valid(
    texts: Sequence[str], height: int, width: int
) -> tuple[DecodedMasks, np.ndarray] | None:
    """Decode compressed run lengths, provided that all of them are valid.

    Args:
        texts: compressed counts of N masks.
        height, width: size of their frame in pixels; at most ``run_lengths.MAX_PIXELS`` together.

    Returns:
        ``(N,)`` masks and their ``(N,)`` int64 areas in pixels. None if a text is not COCO's
        encoding, a run is negative, a run after the first is 0, or the runs do not sum to the
        frame's pixels (``run_lengths.sum_runs`` tells which); also None if the C functions are not
        available.
    """
    if not texts or c_functions() is None or (lengths := are_counts(texts)) is None:
        return None
    # Odd numbers of runs are padded to even ones, so that every mask starts at an even index. The
    # padding, a difference of 1, is a valid run if the run two places earlier is.
    odd = lengths % 2
    padding = np.where(odd, "1", "").tolist()
    padded = "".join(chain((_HEAD,), chain.from_iterable(zip(texts, padding, strict=True))))
    runs, starts = _decode_each(padded.encode("ascii"), lengths + odd)
    first = runs[starts]
    runs[starts] = 1  # only the first run may be 0
    valid = runs.min() > 0 and max(int(runs.max()), int(first.max())) <= height * width
    runs[starts] = first
    runs[(starts + lengths)[odd == 1]] = 0
    background, areas = _sums(runs, starts, int(lengths.max()) * height * width)
    if not valid or (background + areas != height * width).any():
        return None
    records = np.empty(len(texts), dtype=_RECORD)
    records["height"], records["width"], records["length"] = height, width, lengths
    records["runs"] = runs.ctypes.data + runs.itemsize * starts
    return DecodedMasks(records, (runs,)), areas


def _sums(runs: np.ndarray, starts: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """``(N,)`` int64 sums of the background runs and of the foreground runs of each mask.

    Args:
        runs: uint32, of masks that start at the even indices ``starts``.
        largest: no sum is greater.
    """
    if largest < 1 << 32:  # no sum carries over: add each pair of runs as one number
        pairs = np.add.reduceat(runs.view(np.uint64), starts // 2)
        sums = pairs.view(np.uint32).astype(np.int64)
        return sums[::2], sums[1::2]
    background, foreground = (
        np.add.reduceat(runs[which::2], starts // 2, dtype=np.int64) for which in (0, 1)
    )
    return background, foreground


def _decode_each(text: bytes, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decode concatenated masks in one call and separate them.

    From its fourth run on, a mask stores differences to the run two places earlier. The decoder
    takes the whole text for one mask and applies this to the first runs of every mask as well: the
    last two runs of the previous mask are added to all even and odd runs, and the mask's first run
    to its third and all later even runs. These constants are subtracted here, modulo 2^32.

    Args:
        text: ``_HEAD`` followed by the masks.
        lengths: ``(N,)`` number of runs of each mask, even.

    Returns:
        ``(lengths.sum(),)`` uint32 runs, and the ``(N,)`` index of each mask's first run.
    """
    functions = c_functions()
    record = np.zeros(1, dtype=_RECORD)
    functions.decode(record.ctypes.data, text, 1, 1)
    runs = np.empty(int(record["length"][0]), dtype=np.uint32)
    ctypes.memmove(runs.ctypes.data, int(record["runs"][0]), runs.nbytes)
    functions.free(record.ctypes.data)
    starts = np.cumsum(lengths) - lengths
    at = starts + len(_HEAD)
    carried = np.stack([runs[at], runs[at - 1]], axis=1).view(np.uint64).ravel()
    first = runs[at] - runs[at - 2]
    alone = runs[len(_HEAD) :]
    alone -= np.repeat(carried, lengths // 2).view(np.uint32)
    alone[starts] = first
    return alone, starts


@cache
def c_functions() -> Any:
    """``_Functions``, or None if this platform's pycocotools does not export them."""
    word, pointer = ctypes.c_ulong, ctypes.c_void_p
    if ctypes.sizeof(word) != _RECORD["height"].itemsize:
        return None
    try:
        library = ctypes.CDLL(_mask.__file__)
        found = _Functions(library.rleFrString, library.rleFree, library.rleIou)
    except (OSError, AttributeError):
        return None
    found.decode.argtypes = [pointer, ctypes.c_char_p, word, word]
    found.free.argtypes = [pointer]
    found.iou.argtypes = [pointer, pointer, word, word, pointer, pointer]
    for function in found:
        function.restype = None
    return found
