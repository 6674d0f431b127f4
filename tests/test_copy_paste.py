"""Copy-paste: exact composites, occlusion, and one identity in both frames of a pair."""

import copy

import numpy as np
import pytest
from data_support import (
    assert_equal_batches,
    batches,
    coco_content,
    tight,
    training_config,
    whole_mask,
    write_set,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.config import DatasetConfig, InputConfig
from queryinst_vis.data.copy_paste import Cutout, draw_cutouts, paste
from queryinst_vis.data.frames import Frame, MaskPiece, VisibleInstance, without_small
from queryinst_vis.data.loader import TrainingSamples
from queryinst_vis.data.order import SampleOrder
from queryinst_vis.data.records import ImageRecord, Instance
from queryinst_vis.masks import encode_rle
from queryinst_vis.utils.images import read_image

ROWS, COLUMNS = 10, 12


def piece(top, left, rows, columns):
    return MaskPiece(np.ones((rows, columns), np.uint8), top, left)


def frame_with(*masks, boxes=None, ignored=()):
    """Black, with instances 1, 2, ... of labels 0, 1, ...; a None among the masks has its box."""
    boxes = boxes or [mask.box() for mask in masks]
    instances = [
        VisibleInstance(box, number, number + 1, mask)
        for number, (box, mask) in enumerate(zip(boxes, masks, strict=True))
    ]
    return Frame(np.zeros((ROWS, COLUMNS, 3), np.uint8), instances, list(ignored))


def cutout(mask, colour=200, label=5, instance_id=50):
    return Cutout(np.full((*mask.pixels.shape, 3), colour, np.uint8), mask, label, instance_id)


def whole(mask):
    return whole_mask(mask, (ROWS, COLUMNS))


def test_pasted_pixels_are_exactly_those_of_the_mask():
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    result = paste(frame_with(), [cutout(MaskPiece(ring, 2, 4))])
    expected = np.zeros((ROWS, COLUMNS), np.uint8)
    expected[2:5, 4:7] = 200 * ring
    np.testing.assert_array_equal(result.image, np.repeat(expected[:, :, None], 3, axis=2))
    assert (result.boxes, result.labels, result.instance_ids) == ([(4, 2, 7, 5)], [5], [50])
    np.testing.assert_array_equal(whole(result.masks[0]), expected > 0)


def test_occluded_instances_lose_the_covered_pixels_and_get_tight_boxes():
    result = paste(frame_with(piece(2, 2, 4, 6)), [cutout(piece(0, 5, 9, 4))])
    assert result.instance_ids == [1, 50]
    assert result.boxes == [(2, 2, 5, 6), (5, 0, 9, 9)]
    assert [np.count_nonzero(mask.pixels) for mask in result.masks] == [4 * 3, 9 * 4]


def test_an_unoccluded_instance_keeps_its_annotated_box():
    """Bounding boxes may overlap: only the pixels of the masks count."""
    corner = np.array([[1, 1, 1], [1, 0, 0], [1, 0, 0]], np.uint8)
    before = frame_with(MaskPiece(corner, 2, 2), boxes=[(1.7, 2.1, 5.2, 4.9)])
    result = paste(before, [cutout(piece(3, 3, 4, 4))])
    assert result.boxes[0] == (1.7, 2.1, 5.2, 4.9)
    assert result.masks[0] is before.masks[0]


def test_a_fully_occluded_instance_is_removed():
    result = paste(frame_with(piece(3, 3, 2, 2), piece(0, 0, 1, 1)), [cutout(piece(2, 2, 4, 4))])
    assert (result.instance_ids, result.labels) == ([2, 50], [1, 5])


def test_later_cutouts_occlude_earlier_ones():
    back = cutout(piece(1, 1, 4, 4), 100, instance_id=50)
    front = cutout(piece(1, 3, 4, 4), 200, instance_id=51)
    result = paste(frame_with(), [back, front])
    assert result.boxes == [(1, 1, 3, 5), (3, 1, 7, 5)]
    assert result.image[1, :8, 0].tolist() == [0, 100, 100, 200, 200, 200, 200, 0]
    assert paste(frame_with(), [front, back]).boxes == [(5, 1, 7, 5), (1, 1, 5, 5)]


@pytest.mark.parametrize(
    ("place", "box"),
    [
        ((-2, -1), (0, 0, 2, 1)),
        ((-2, 4), (4, 0, 7, 1)),
        ((8, 10), (10, 8, 12, 10)),
        ((4, -2), (0, 4, 1, 7)),
    ],
)
def test_a_cutout_is_clipped_to_the_frame(place, box):
    result = paste(frame_with(), [cutout(piece(*place, 3, 3))])
    assert result.boxes == [box]
    x0, y0, x1, y1 = box
    assert (result.image > 0).sum() == 3 * (x1 - x0) * (y1 - y0)


@pytest.mark.parametrize("place", [(-3, 0), (ROWS, 0), (0, -3), (0, COLUMNS), (-50, 90)])
def test_a_cutout_outside_the_frame_has_no_effect(place):
    before = frame_with(piece(0, 0, ROWS, COLUMNS))
    result = paste(before, [cutout(piece(*place, 3, 3))])
    assert result.instance_ids == [1]
    np.testing.assert_array_equal(result.image, before.image)


def test_the_input_frame_is_not_modified():
    before = frame_with(piece(2, 2, 4, 6), ignored=[piece(0, 0, 3, 3)])
    kept = copy.deepcopy(before)
    paste(before, [cutout(piece(0, 0, 9, 5)), cutout(piece(3, 3, 4, 4), instance_id=51)])
    np.testing.assert_array_equal(before.image, kept.image)
    assert before.boxes == kept.boxes and before.instance_ids == kept.instance_ids
    np.testing.assert_array_equal(before.masks[0].pixels, kept.masks[0].pixels)
    np.testing.assert_array_equal(before.ignored[0].pixels, kept.ignored[0].pixels)


@pytest.mark.parametrize(("covered_rows", "stays"), [(7, True), (8, False)])
def test_a_box_without_mask_is_kept_while_a_quarter_of_it_is_visible(covered_rows, stays):
    before = frame_with(None, boxes=[(2.0, 0.0, 6.0, 10.0)])
    result = paste(before, [cutout(piece(0, 0, covered_rows, COLUMNS))])
    assert result.instance_ids == ([1, 50] if stays else [50])
    if stays:
        assert (result.boxes[0], result.masks[0], result.ignored) == ((2, 0, 6, 10), None, [])
    else:
        assert [mask.box() for mask in result.ignored] == [(2, covered_rows, 6, 10)]


def test_pasted_instances_are_removed_from_ignore_regions():
    before = frame_with(ignored=[piece(0, 0, 4, 4), piece(8, 8, 1, 1)])
    result = paste(before, [cutout(piece(0, 0, 2, 4)), cutout(piece(7, 7, 3, 3))])
    assert [mask.box() for mask in result.ignored] == [(0, 2, 4, 4)]


@st.composite
def blobs(draw):
    rows, columns = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    pixels = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    mask = np.array(pixels, np.uint8).reshape(rows, columns)
    mask[0, 0] = 1
    return mask


@given(
    st.lists(st.tuples(blobs(), st.integers(0, 2), st.integers(0, 4)), max_size=4),
    st.lists(st.tuples(blobs(), st.integers(-6, 9), st.integers(-6, 11)), max_size=4),
    st.integers(1, 12),
)
@settings(max_examples=150, deadline=None)
def test_masks_boxes_and_image_agree_with_painting_back_to_front(own, pasted, least):
    masks = [MaskPiece(*entry) for entry in own]
    cutouts = [
        cutout(MaskPiece(*entry), colour=100 + i, instance_id=50 + i)
        for i, entry in enumerate(pasted)
    ]
    painted = np.zeros((40, 40), int)  # 20 pixels of margin; who is in front
    for over in cutouts:
        mask, top, left = over.mask
        painted[top + 20 : top + 20 + mask.shape[0], left + 20 : left + 20 + mask.shape[1]][
            mask == 1
        ] = over.instance_id
    painted = painted[20 : 20 + ROWS, 20 : 20 + COLUMNS]

    result = without_small(paste(frame_with(*masks), cutouts), least)

    expected = {number + 1: whole(mask) & (painted == 0) for number, mask in enumerate(masks)}
    expected |= {over.instance_id: painted == over.instance_id for over in cutouts}
    areas = {number: mask.sum() for number, mask in expected.items()}
    assert result.instance_ids == [number for number, area in areas.items() if area >= least]
    for number, mask, box in zip(result.instance_ids, result.masks, result.boxes, strict=True):
        np.testing.assert_array_equal(whole(mask), expected[number])
        assert box == tight(expected[number])
    colours = np.where(painted > 0, 50 + painted, 0)
    np.testing.assert_array_equal(result.image[:, :, 1], colours)
    small = [mask for number, mask in expected.items() if 0 < areas[number] < least]
    np.testing.assert_array_equal(union(small), union(map(whole, result.ignored)))


def union(masks):
    return np.logical_or.reduce([np.zeros((ROWS, COLUMNS), bool), *masks])


# --- what is drawn -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def donor(tmp_path_factory):
    """80x48 pixels: a dog cut off at the left, a car inside, and a dog without a mask."""
    annotations, images = write_set(tmp_path_factory.mktemp("donor"), coco_content())
    dog, car = np.zeros((2, 48, 80), bool)
    dog[8:40, 0:20] = True
    car[10:20, 40:60] = True
    instances = [
        Instance(1, 1, None, encode_rle(dog)),
        Instance(2, 0, None, encode_rle(car)),
        Instance(3, 1, (60.0, 30.0, 70.0, 40.0), None),
    ]
    assert annotations.exists()
    return ImageRecord(70, images / "a.jpg", 48, 80, instances)


def target(size=(96, 160), ids=(7,)):
    instances = [VisibleInstance((0.0, 0.0, 1.0, 1.0), 0, id_, None) for id_ in ids]
    return Frame(np.zeros((*size, 3), np.uint8), instances)


def drawn(donor, frames, seed=0, **settings):
    config = InputConfig(**({"flip": 0.0, "scale_jitter": [1.0, 1.0]} | settings))
    return draw_cutouts(np.random.default_rng(seed), frames, donor, config)


def test_cutouts_show_the_pixels_and_masks_of_the_donor(donor):
    image = read_image(donor.path)
    for seed in range(20):  # the frame is as large as the donor's image
        for over in drawn(donor, [target((48, 80))], seed)[0]:
            x0, y0, x1, y1 = {1: (0, 8, 20, 40), 0: (40, 10, 60, 20)}[over.label]
            np.testing.assert_array_equal(over.pixels, image[y0:y1, x0:x1])
            assert over.mask.pixels.all()
            assert over.mask.top == y0


def test_at_scale_1_the_donors_image_fits_the_frame(donor):
    sizes = {
        over.label: over.pixels.shape[:2]
        for seed in range(20)
        for over in drawn(donor, [target((96, 400))], seed)[0]
    }
    assert sizes == {0: (20, 40), 1: (64, 40)}


def test_scales_are_drawn_from_their_range_and_nothing_is_larger_than_the_frame(donor):
    frame = target((96, 160))
    draws = [drawn(donor, [frame], seed, scale_jitter=[0.5, 3.0])[0] for seed in range(150)]
    overs = [over for cutouts in draws for over in cutouts]
    heights = {label: [o.pixels.shape[0] for o in overs if o.label == label] for label in (0, 1)}
    assert min(heights[0]) <= 12 and max(heights[0]) >= 55  # 10 to 60
    assert max(heights[1]) == 96  # of 192
    assert all(o.pixels.shape[0] <= 96 and o.pixels.shape[1] <= 160 for o in overs)


def test_the_requested_number_of_instances_with_masks_is_pasted(donor):
    counts = {len(drawn(donor, [target()], seed, copy_paste_max=1)[0]) for seed in range(20)}
    assert counts == {1}
    counts = {len(drawn(donor, [target()], seed, copy_paste_max=5)[0]) for seed in range(20)}
    assert counts == {1, 2}


def test_nothing_is_pasted_from_an_image_without_masks(donor):
    boxes_only = ImageRecord(1, donor.path, 48, 80, donor.instances[2:])
    assert drawn(boxes_only, [target(), target()]) == [[], []]


def test_pasted_instances_get_unused_ids(donor):
    frames = [target(ids=(7, 3)), target(ids=(12, 7))]
    for seed in range(20):
        ids = [[over.instance_id for over in cutouts] for cutouts in drawn(donor, frames, seed)]
        assert {13} <= set().union(*ids) <= {13, 14}
        assert all(len(set(numbers)) == len(numbers) for numbers in ids)


def test_an_instance_cut_off_by_the_image_border_stays_at_that_border(donor):
    lefts = {True: set(), False: set()}
    for flip in (False, True):
        for seed in range(30):
            for over in drawn(donor, [target()], seed, flip=float(flip))[0]:
                if over.label == 1:
                    lefts[flip].add(over.mask.left)
    assert lefts == {False: {0}, True: {160 - 40}}


def test_in_a_pair_a_pasted_instance_keeps_label_and_identity_and_moves_slightly(donor):
    steps, growths, alone = [], [], 0
    for seed in range(300):
        key, reference = (
            {over.instance_id: over for over in cutouts}
            for cutouts in drawn(donor, [target(), target()], seed, scale_jitter=[0.7, 0.7])
        )
        alone += len(key.keys() ^ reference.keys())
        for number in key.keys() & reference.keys():
            first, second = key[number], reference[number]
            assert first.label == second.label
            if first.label == 0:  # the one that is not held at a border
                (h0, w0), (h1, w1) = first.mask.pixels.shape, second.mask.pixels.shape
                growths.append((h1 * w1 / h0 / w0) ** 0.5)
                down = second.mask.top + h1 / 2 - first.mask.top - h0 / 2
                right = second.mask.left + w1 / 2 - first.mask.left - w0 / 2
                steps.append(np.hypot(down, right) / (h0 * w0) ** 0.5)
    assert 0.4 < max(steps) < 0.56 and np.mean(steps) > 0.15  # a pixel is 1/20
    assert 0.85 < min(growths) < 0.95 and 1.05 < max(growths) < 1.15
    assert 0.1 < alone / 450 < 0.2  # of 1.5 instances a pair on average


def test_both_frames_of_a_pair_have_the_same_depth_order(donor):
    for seed in range(40):
        for cutouts in drawn(donor, [target(), target()], seed):
            ids = [over.instance_id for over in cutouts]
            assert ids == sorted(ids)


# --- in training ---------------------------------------------------------------------------


def mixed(videos, images, **settings):
    usual = {"copy_paste": 1.0, "colour": 0.5, "flip": 0.5}
    config = training_config(*videos, pairs=True, **(usual | settings))
    config.data.train_extra = [DatasetConfig(*map(str, images), weight=2.0)]
    return config


def test_copy_paste_changes_only_the_pasted_pixels(videos, images):
    off = TrainingSamples(mixed(videos, images, copy_paste=0.0))
    on = TrainingSamples(mixed(videos, images, copy_paste=0.5))
    changed = 0
    for number in range(30):
        for plain, frame in zip(off[number], on[number], strict=True):
            covered = np.zeros(frame.image.shape[:2], bool)
            for identity, mask in zip(frame.instance_ids, frame.masks, strict=True):
                if identity not in plain.instance_ids:
                    mask.window(covered)[:] |= mask.pixels == 1
            np.testing.assert_array_equal(plain.image[~covered], frame.image[~covered])
            changed += covered.any()
    assert 15 < changed < 45


def test_nothing_is_pasted_from_the_same_image_or_video(videos, images):
    """Otherwise one object would occur twice, with two identities."""
    for annotated in (videos, images):
        samples = TrainingSamples(training_config(*annotated, pairs=True, copy_paste=1.0))
        for number in range(8):
            for frame in samples[number]:
                assert set(frame.instance_ids) <= {30, 31, 44, 501}


def test_donors_come_from_the_epoch_of_their_sample(videos, images, monkeypatch):
    """A set with a small weight contributes other items in every epoch."""
    samples, drawn = TrainingSamples(mixed(videos, images)), []
    length, draw = samples.epoch_length, SampleOrder.__getitem__
    monkeypatch.setattr(
        SampleOrder, "__getitem__", lambda self, n: drawn.append(n) or draw(self, n)
    )
    for number in range(3 * length):
        drawn.clear()
        samples[number]
        assert {each // length for each in drawn} == {number // length}


def test_pasted_instances_have_one_identity_in_both_frames(videos, images):
    samples = TrainingSamples(mixed(videos, images))
    shared = 0
    for number in range(30):
        key, reference = samples[number]
        known = dict(zip(key.instance_ids, key.labels, strict=True))
        for identity, label in zip(reference.instance_ids, reference.labels, strict=True):
            if identity in known and identity not in (30, 31, 44, 501):
                assert known[identity] == label
                shared += 1
    assert shared > 20


def test_copy_paste_does_not_depend_on_workers_or_resuming(videos, images):
    config = mixed(videos, images, scale_jitter=[0.3, 2.0])
    config.input.transforms = [{"name": "ColorJitter", "brightness": 0.5}]
    unbroken = batches(config, 5)
    for got, wanted in zip(batches(config, 2, start_step=3), unbroken[3:], strict=True):
        assert_equal_batches(got, wanted)
        assert wanted.reference is not None
    config.data.num_workers = 2
    for got, wanted in zip(batches(config, 5), unbroken, strict=True):
        assert_equal_batches(got, wanted)


def test_every_instance_of_a_batch_has_the_required_visible_pixels(videos, images):
    config = mixed(videos, images, min_visible=60, scale_jitter=[0.3, 1.0])
    config.losses.ignore_overlap = 0.7
    areas, ignored = [], 0
    for batch in batches(config, 12):
        for target in [*batch.targets, *batch.reference.targets]:
            areas += target.masks.sum((1, 2)).tolist()
            ignored += target.ignore is not None
    assert min(areas) >= 60
    assert ignored > 0


def test_an_unreadable_source_image_is_named(videos, images):
    config = mixed(videos, images)
    (images[1] / "a.jpg").write_bytes(b"junk")
    results = [TrainingSamples(config)[number] for number in range(8)]
    messages = {str(result) for result in results if not isinstance(result, list)}
    assert messages == {f"image {images[1] / 'a.jpg'}: not a readable image"}
