"""Decoded masks: accepted RLE strings, and overlaps equal to those of pycocotools."""

import pickle

import numpy as np
import pytest
from data_support import compressed, decoded_slowly
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from queryinst_vis.evaluation import evaluate_youtube_vis
from queryinst_vis.evaluation.overlaps import frame_overlaps
from queryinst_vis.formats.video_set import VideoSet
from queryinst_vis.masks import decoded, encode_rle, to_masks
from queryinst_vis.masks.decoded import decode_valid, frame_ioas
from queryinst_vis.masks.run_lengths import MAX_PIXELS, are_counts, is_counts, sum_runs

HEIGHT, WIDTH = 6, 5

needs_library = pytest.mark.skipif(
    decoded.c_functions() is None, reason="pycocotools does not export its C functions here"
)


def runs_of(masks):
    """The run lengths behind the records."""
    lengths = masks.records["length"].tolist()
    starts = ((masks.records["runs"] - masks.memory[0].ctypes.data) // 4).tolist()
    return [masks.memory[0][s : s + n].tolist() for s, n in zip(starts, lengths, strict=True)]


@st.composite
def partitions(draw):
    """Run lengths of a frame of ``HEIGHT`` x ``WIDTH`` pixels, usually valid ones."""
    cuts = draw(st.sets(st.integers(0, HEIGHT * WIDTH), max_size=9))
    return np.diff([0, *sorted(cuts), HEIGHT * WIDTH]).tolist()


@needs_library
@settings(max_examples=200, deadline=None)
@given(st.lists(partitions(), min_size=1, max_size=6))
def test_runs_and_areas_round_trip(masks):
    found = decode_valid([compressed(runs) for runs in masks], HEIGHT, WIDTH)
    valid = all(0 not in runs[1:] for runs in masks)
    assert (found is not None) == valid
    if found is not None:
        assert runs_of(found[0]) == masks
        assert found[1].tolist() == [sum(runs[1::2]) for runs in masks]


@needs_library
@settings(max_examples=400, deadline=None)
@given(st.lists(st.text("0123AOPQ_`hno", min_size=1, max_size=9), min_size=1, max_size=4))
def test_rle_strings_are_accepted_exactly_when_sum_runs_accepts_them(texts):
    pixels = decoded_slowly(texts[0]) if is_counts(texts[0]) else [7]
    height = max(sum(pixels), 1)
    valid = all(map(is_counts, texts)) and height <= MAX_PIXELS
    if valid:
        sums = sum_runs(texts)
        valid = (sums.totals == height).all() and (sums.shortest > 0).all()
    found = decode_valid(texts, height, 1)
    assert (found is not None) == bool(valid)
    if found is not None:
        assert runs_of(found[0]) == [decoded_slowly(text) for text in texts]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("0AOPo`pé\0/", max_size=8), min_size=1, max_size=4))
def test_are_counts_agrees_with_is_counts(texts):
    counts = are_counts(texts)
    assert (counts is not None) == all(map(is_counts, texts))
    if counts is not None:
        assert counts.tolist() == [len(decoded_slowly(text)) for text in texts]


@needs_library
@pytest.mark.parametrize(
    "runs",
    [
        [10, 2**31, 2**31 - 10 + 30],  # sums to the frame's pixels modulo 2^32
        [2**28] * 16 + [30],
        [0, 40, -10],
        [-10, 40],
        [31],
    ],
)
def test_sums_that_only_match_modulo_two_to_the_32_are_rejected(runs):
    rle = coco_mask.frPyObjects({"size": [1, 1], "counts": [n % 2**32 for n in runs]}, 1, 1)
    assert decode_valid([rle["counts"].decode()], HEIGHT, WIDTH) is None


def test_are_counts_handles_hundreds_of_rle_strings():
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(["0", "O", "P0", "oo1"], n)) for n in rng.integers(1, 200, 300)]
    assert are_counts(texts).tolist() == [len(decoded_slowly(text)) for text in texts]


@needs_library
def test_sums_that_only_match_if_32_bits_carry_over_are_rejected():
    runs = [MAX_PIXELS, 1] * 8 + [MAX_PIXELS - 1]  # 2^32 - 1 more than the frame's pixels
    assert sum(runs) - MAX_PIXELS == 2**32 - 1
    assert decode_valid([compressed(runs)], 1, MAX_PIXELS) is None


@needs_library
def test_sums_of_many_runs_in_a_large_frame():
    runs = [1] * 99 + [MAX_PIXELS - 99]  # 100 runs as large as the frame would exceed 32 bits
    masks, areas = decode_valid([compressed(runs)], 1, MAX_PIXELS)
    assert runs_of(masks) == [runs]
    assert areas.tolist() == [sum(runs[1::2])]


@needs_library
@pytest.mark.parametrize("pairs", [1, 30, 1 << 20])
def test_overlaps_equal_those_of_pycocotools(pairs, monkeypatch):
    rng = np.random.default_rng(0)
    shown, other = (
        [
            [rng.random((HEIGHT, WIDTH)) < share for share in (0.1, 0.5, 0.9, 0)]
            for _ in range(tracks)
        ]
        for tracks in (3, 4)
    )
    tables = []
    for tracks in (shown, other):
        rles, _, masks = to_masks(
            [encode_rle(mask) for row in tracks for mask in row], HEIGHT, WIDTH
        )
        places = np.divmod(np.arange(len(rles)), 4)
        kept = rng.random(len(rles)) < 0.8
        table = masks[kept].placed(tuple(place[kept] for place in places), (len(tracks), 4))
        assert table.present.sum() == kept.sum()
        tables.append((table, np.array(rles, dtype=object).reshape(-1, 4)))
    (own, own_rles), (others, other_rles) = tables
    monkeypatch.setattr(decoded, "PAIRS", pairs)
    parts = list(frame_ioas(own, others))
    assert (len(parts) > 1) == (pairs < 100)
    assert [frame for part in parts for frame in part.frames] == [0, 1, 2, 3]
    frames = [in_frame for part in parts for in_frame in part.by_frame(part.ioas)]
    for frame, rows, columns, ioas in frames:
        assert rows.tolist() == np.flatnonzero(own.present[:, frame]).tolist()
        assert columns.tolist() == np.flatnonzero(others.present[:, frame]).tolist()
        texts = own_rles[rows, frame].tolist(), other_rles[columns, frame].tolist()
        expected = coco_mask.iou(*texts, [1] * len(columns))
        np.testing.assert_array_equal(ioas, expected)
    for part in parts:
        table = {
            frame: indices for frame, _, _, indices in part.by_frame(np.arange(len(part.ioas)))
        }
        for place, (frame, row, column) in enumerate(zip(*part.pairs(), strict=True)):
            own_rows = np.flatnonzero(own.present[:, frame]).tolist()
            other_rows = np.flatnonzero(others.present[:, frame]).tolist()
            assert table[frame][own_rows.index(row), other_rows.index(column)] == place


@needs_library
def test_tracks_are_decoded_and_cannot_be_pickled(golden):
    [first, *_] = VideoSet(*golden)
    tracks = [*first.detections, *first.ground_truth]
    assert all(track.decoded is not None for track in tracks)
    with pytest.raises(TypeError, match="this process's memory"):
        pickle.dumps(tracks[0].decoded)


def test_results_without_the_c_extension_are_the_same(golden, monkeypatch):
    expected = evaluate_youtube_vis(*golden)
    overlaps = [list(frame_overlaps(v.detections, v.ground_truth)) for v in VideoSet(*golden)]
    monkeypatch.setattr(decoded, "c_functions", lambda: None)
    assert evaluate_youtube_vis(*golden) == expected
    for video, found in zip(VideoSet(*golden), overlaps, strict=True):
        assert all(track.decoded is None for track in video.detections)
        plain = list(frame_overlaps(video.detections, video.ground_truth))
        for one, other in zip(plain, found, strict=True):
            assert one.frame == other.frame
            for name in ("rows", "columns", "intersections"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture
def golden(request):
    folder = request.path.parent / "data" / "ytvis_eval"
    return folder / "small_gt.json", folder / "small_results.json"
