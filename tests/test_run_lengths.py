"""COCO RLE decoded in bulk: as pycocotools does, and safely on malformed input."""

import numpy as np
import pytest
from data_support import compressed, decoded_slowly
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from queryinst_vis.masks import decode_rle, encode_rle, to_rles
from queryinst_vis.masks.run_lengths import MAX_PIXELS, is_counts, sum_runs

RUNS = st.lists(st.integers(0, 2**26), min_size=1, max_size=9)


@settings(max_examples=200, deadline=None)
@given(st.lists(RUNS, min_size=1, max_size=5))
def test_decoded_areas_equal_the_sums_of_the_runs(masks):
    sums = sum_runs([compressed(runs) for runs in masks])
    assert sums.totals.tolist() == [sum(runs) for runs in masks]
    assert sums.areas.tolist() == [sum(runs[1::2]) for runs in masks]
    assert (sums.shortest == 0).tolist() == [0 in runs[1:] for runs in masks]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("0123AOPQ_`hno", min_size=1, max_size=12), min_size=1, max_size=4))
def test_any_rle_string_is_summed_or_refused(texts):
    if all(is_counts(text) for text in texts):
        sums = sum_runs(texts)
        for text, total, shortest in zip(texts, sums.totals, sums.shortest, strict=True):
            runs = decoded_slowly(text)
            assert total == sum(runs)
            assert (shortest < 0) == (min(runs) < 0)
            assert (shortest > 0) == (runs[0] >= 0 and min([1, *runs[1:]]) > 0)
    else:
        with pytest.raises(ValueError, match="not COCO run lengths"):
            sum_runs(texts)


@pytest.mark.parametrize("text", ["", "P" * 6 + "0", "o", "p0", "/", "é", "0\n", "ooooooo"])
def test_rle_strings_that_pycocotools_would_overread_are_refused(text):
    assert not is_counts(text)
    with pytest.raises(ValueError):
        sum_runs(["0", text])


def test_the_largest_mask_is_decoded():
    sums = sum_runs([compressed([MAX_PIXELS]), compressed([0, MAX_PIXELS])])
    assert sums.totals.tolist() == [MAX_PIXELS] * 2
    assert sums.areas.tolist() == [0, MAX_PIXELS]


@pytest.mark.parametrize("runs", [[2**24, 5, 7, 9], [2**28, 2**24 - 1, 0], [2**25]])
def test_a_long_first_run_is_compressed_as_by_pycocotools(runs):
    rle = coco_mask.frPyObjects({"size": [1, 1], "counts": runs}, 1, 1)
    assert compressed(runs) == rle["counts"].decode()


def test_four_runs_of_six_characters_are_compressed_without_pycocotools():
    """Its buffer has six characters for each run, and none for the end of the text."""
    runs = [2**25, 2**25, 2**25, 2**26]
    assert decoded_slowly(compressed(runs)) == runs and len(compressed(runs)) == 24


def test_runs_of_no_pixels_inside_a_mask_are_joined():
    # pycocotools ends a comparison where both masks have such a run at the same place
    broken = {"size": [10, 10], "counts": compressed([10, 20, 0, 70])}
    assert coco_mask.iou([broken], [broken], [1])[0, 0] < 1
    [joined], areas = to_rles([broken], 10, 10, str)
    assert areas.tolist() == [90]
    assert joined == encode_rle(decode_rle(broken))
    assert coco_mask.iou([joined], [joined], [1])[0, 0] == 1


def test_thousands_of_masks_round_trip():
    rng = np.random.default_rng(0)
    masks = [rng.random((7, 9)) < 0.3 for _ in range(1000)]
    rles, areas = to_rles([encode_rle(mask) for mask in masks], 7, 9, str)
    assert areas.tolist() == [mask.sum() for mask in masks]
    assert all((decode_rle(rle) == mask).all() for rle, mask in zip(rles, masks, strict=True))
    assert to_rles([], 7, 9, str)[0] == []
