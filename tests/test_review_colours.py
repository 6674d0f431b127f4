"""Colour descriptors of regions: what they distinguish, their use and their cache."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from queryinst_vis.errors import InputWarning
from queryinst_vis.masks import encode_rle
from queryinst_vis.review import Merge, ReviewSession, Swap, suggest
from queryinst_vis.review.colours import colour_descriptor
from tests.review_support import HEIGHT, WIDTH, square, write_results

RED, BLUE, GREY = (200, 30, 30), (30, 30, 200), (120, 120, 120)


def painted(regions):
    """A grey image with squares ``(x, y, colour)``."""
    image = np.full((HEIGHT, WIDTH, 3), GREY, dtype=np.uint8)
    for x, y, colour in regions:
        image[square(x, y)] = colour
    return image


def similarity(first, second):
    return float(first @ second)


def test_similarity_depends_on_colour_and_not_on_position():
    image = painted([(2, 2, RED), (10, 8, RED), (20, 12, BLUE)])
    red, moved, blue = (
        colour_descriptor(image, encode_rle(square(x, y))) for x, y in ((2, 2), (10, 8), (20, 12))
    )
    assert similarity(red, moved) == pytest.approx(1)
    assert similarity(red, blue) == pytest.approx(0)


def test_red_over_blue_differs_from_blue_over_red():
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[:12, :4] = True
    image[:6], image[6:12] = RED, BLUE
    upright = colour_descriptor(image, encode_rle(mask))
    flipped = colour_descriptor(image[11::-1], encode_rle(mask[:12]))
    assert similarity(upright, flipped) < 0.5


def test_the_descriptor_of_an_empty_region_is_zero():
    empty = encode_rle(np.zeros((HEIGHT, WIDTH), dtype=bool))
    assert not colour_descriptor(painted([]), empty).any()


@pytest.fixture
def crossing(tmp_path):
    """Results in which a red instance is lost, and two later tracks are equally close to it."""
    tracks = {1: {frame: (6, 8) for frame in range(25)}}
    tracks[2] = {frame: (6, 5) for frame in range(30, 60)}
    tracks[3] = {frame: (6, 11) for frame in range(30, 60)}
    colours = {1: RED, 2: BLUE, 3: RED}
    write_results(tmp_path, tracks, 60)
    frames = tmp_path / "frames"
    frames.mkdir()
    for frame in range(60):
        squares = [(*tracks[id_][frame], colours[id_]) for id_ in tracks if frame in tracks[id_]]
        Image.fromarray(painted(squares)).save(frames / f"{frame:03}.png")
    return tmp_path


def pairs(session):
    """The probability of suggested merges, by pair of tracks."""
    return {
        frozenset((each.accept.first, each.accept.second)): each.probability
        for each in suggest(session)
        if isinstance(each.accept, Merge)
    }


def test_colours_rank_fragments(crossing):
    with ReviewSession.open(crossing, crossing / "frames") as session:
        found = pairs(session)
    assert found[frozenset((1, 3))] > 4 * found.get(frozenset((1, 2)), 0.01)


def test_without_the_video_colours_are_not_compared(crossing):
    with ReviewSession.open(crossing) as session:
        found = pairs(session)
    assert found[frozenset((1, 3))] == pytest.approx(found[frozenset((1, 2))])


def test_colours_are_measured_once(crossing):
    with ReviewSession.open(crossing, crossing / "frames") as session:
        before = suggest(session)
    frames = crossing / "frames"
    stamps = {path: path.stat() for path in frames.iterdir()}
    with ReviewSession.open(crossing, frames) as session:
        for path in stamps:
            path.write_bytes(b"not an image")
        assert suggest(session) == before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"\x93NUMPY"])
def test_a_damaged_cache_is_measured_again(crossing, content):
    with ReviewSession.open(crossing, crossing / "frames") as session:
        before = suggest(session)
    cache = crossing / "tracks.jsonl.review" / "index" / "colours.npz"
    assert cache.exists()
    cache.write_bytes(content)
    with ReviewSession.open(crossing, crossing / "frames") as session:
        assert suggest(session) == before


def test_a_video_of_another_size_is_ignored_with_a_warning(crossing):
    for path in (crossing / "frames").iterdir():
        Image.new("RGB", (WIDTH * 2, HEIGHT)).save(path)
    with (
        ReviewSession.open(crossing, crossing / "frames") as session,
        pytest.warns(InputWarning, match="colours are not compared: .* 64x24 pixels"),
    ):
        found = pairs(session)
    assert found[frozenset((1, 3))] == pytest.approx(found[frozenset((1, 2))])


def test_a_dismissal_lowers_other_suggestions_about_the_same_two_tracks(tmp_path):
    tracks = {1: {frame: (2, 2) for frame in range(20)}, 2: {frame: (2, 16) for frame in range(18)}}
    tracks[1] |= {frame: (2, 16) for frame in [*range(20, 40), *range(45, 60)]}
    write_results(tmp_path, tracks, 60)
    with ReviewSession.open(tmp_path) as session:
        swaps = [each for each in suggest(session) if each.kind == "swapped"]
        assert {each.accept for each in swaps} == {Swap(1, 2, 20), Swap(1, 2, 45)}
        dismissed, other = swaps
        session.apply(dismissed.dismiss)
        after = {each.id: each.gain for each in suggest(session)}
    assert dismissed.id not in after
    assert after.get(other.id, 0.0) < other.gain / 2
