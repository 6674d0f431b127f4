"""Drawing styles, label placement and redaction."""

import cv2
import numpy as np
import pytest

from queryinst_vis.drawing import DrawingStyle, Overlay, Redaction, Redactor, track_colour
from queryinst_vis.drawing.labels import LabelStyle, draw_labels, place_labels
from queryinst_vis.errors import InputError
from tests.overlay_support import CLASSES, GREY, HEIGHT, WIDTH, found, grey_frame

SIZE = (40, 14)  # of a label, (width, height)


def noise(seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


# Styles


@pytest.mark.parametrize(
    ("parts", "tinted", "outlined", "boxed"),
    [
        (["mask"], True, False, False),
        (["outline"], False, True, True),  # the mask fills its box, so their edges are the same
        (["box"], False, True, True),
        (["trace"], False, False, False),
        ([], False, False, False),
    ],
)
def test_only_the_parts_named_by_the_style_are_drawn(parts, tinted, outlined, boxed):
    overlay = Overlay(CLASSES, style=DrawingStyle.of(parts))
    picture = overlay.draw(grey_frame(), found([[40, 40, 120, 110]], [1]))
    assert bool((picture[60:80, 60:100] != GREY).any()) == tinted
    edge = (picture[60:90, 38:43] == track_colour(1)).all(axis=2).any()
    assert bool(edge) == (outlined or boxed)


def test_mask_and_outline_styles_draw_boxes_for_detections_without_masks():
    detections = found([[40, 60, 80, 100]], [1], masks=False)
    for parts, drawn in ((["mask"], True), (["outline"], True), (["trace"], False)):
        picture = Overlay(CLASSES, style=DrawingStyle.of(parts)).draw(grey_frame(), detections)
        assert (tuple(picture[80, 40]) == track_colour(1)) == drawn


def test_an_unknown_style_part_is_refused():
    with pytest.raises(InputError, match=r"'masks' .*mask, outline"):
        DrawingStyle.of(["masks"])


# Labels


def rectangle(place, size=SIZE):
    return (*place, place[0] + size[0], place[1] + size[1])


def shared(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def test_a_label_is_placed_above_its_box_if_it_fits():
    assert place_labels(np.array([[50, 60, 90, 110]]), [SIZE], (120, 160)) == [(50, 46)]


@pytest.mark.parametrize(
    "box", [(50, 0, 90, 110), (0, -20, 40, 100), (130, 2, 160, 60), (0, 0, 160, 120)]
)
def test_a_label_never_covers_a_head_that_touches_the_upper_edge(box):
    [place] = place_labels(np.array([box]), [SIZE], (120, 160))
    label = rectangle(place)
    assert label[0] >= 0 and label[1] >= 0 and label[2] <= 160 and label[3] <= 120
    head = (
        box[0],
        max(box[1], 0),
        box[2],
        max(box[1], 0) + 0.3 * (min(box[3], 120) - max(box[1], 0)),
    )
    assert shared(label, head) == 0


def test_a_label_does_not_cover_the_head_of_another_instance():
    boxes = np.array([[60, 60, 90, 118], [58, 30, 100, 118]])
    places = place_labels(boxes, [SIZE] * 2, (120, 160))
    assert shared(rectangle(places[0]), (58, 30, 100, 56.4)) == 0


def test_labels_of_a_crowd_stay_in_the_frame_and_overlap_little():
    generator = np.random.default_rng(3)
    corners = generator.uniform(0, [560, 300], (12, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(30, 60, (12, 2))], axis=1)
    labels = [rectangle(p) for p in place_labels(boxes, [SIZE] * 12, (360, 640))]
    overlaps = sum(shared(a, b) for i, a in enumerate(labels) for b in labels[:i])
    assert overlaps <= 0.05 * 12 * SIZE[0] * SIZE[1]
    assert all(x0 >= 0 and x1 <= 640 and y0 >= 0 and y1 <= 360 for x0, y0, x1, y1 in labels)


def test_placing_no_labels_gives_no_positions():
    assert place_labels(np.zeros((0, 4)), [], (10, 10)) == []


def plain_place(box, size, heads, labels, frame_size):
    """The first of seven places with the least overlap, in plain Python."""
    (x0, y0, x1, y1), (w, h), (height, width) = box, size, frame_size
    places = [(x0, y0 - h), (x1 - w, y0 - h), (x1, y0), (x0 - w, y0)]
    places += [(x0, y1), (x0, y1 - h), (x0, y0 - 2 * h)]
    costs = []
    for order, (x, y) in enumerate(places):
        x, y = min(max(round(x), 0), width - w), min(max(round(y), 0), height - h)
        label = (x, y, x + w, y + h)
        covered = sum(shared(label, other) for other in heads + labels)
        costs.append((covered + 0.02 * w * h * order, order, (x, y)))
    return min(costs)[2]


@pytest.mark.parametrize("seed", range(3))
def test_label_places_equal_a_plain_implementation(seed):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(-20, [600, 340], (15, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(5, 90, (15, 2))], axis=1)
    sizes = [(int(w), int(h)) for w, h in generator.integers(10, 60, (15, 2))]
    clipped = boxes.clip(0, [640, 360, 640, 360]).tolist()
    heads = [(x0, y0, x1, y0 + 0.3 * (y1 - y0)) for x0, y0, x1, y1 in clipped]
    places, labels = [], []
    for box, size in zip(clipped, sizes, strict=True):
        places.append(plain_place(box, size, heads, labels, (360, 640)))
        labels.append(rectangle(places[-1], size))
    assert place_labels(boxes, sizes, (360, 640)) == places


@pytest.mark.parametrize("size", [(120, 160), (10, 20)])  # the second has no room for a label
def test_labels_are_text_on_a_rectangle_of_the_track_colour(size):
    style, colour = LabelStyle(0.4, 1, 2), (250, 240, 30)
    scene, expected = noise()[: size[0], : size[1]].copy(), noise()[: size[0], : size[1]].copy()
    box = np.array([[60, 60, 90, 100]])
    for _ in range(2):  # the second time from memory
        draw_labels(scene, box, ["#1 car"], [colour], style)
    (width, height), below = cv2.getTextSize("#1 car", 0, 0.4, 1)
    width, height = width + 4, height + below + 4
    [(x, y)] = place_labels(box, [(width, height)], size)
    cv2.rectangle(expected, (x, y), (x + width - 1, y + height - 1), colour, cv2.FILLED)
    corner = (x + 2, y + height - 2 - below)
    cv2.putText(expected, "#1 car", corner, 0, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    np.testing.assert_array_equal(scene, expected)


# Redaction

BOXES = [[20, 20, 70, 100], [100, 30, 140, 90]]
INSIDE = [(slice(20, 100), slice(20, 70)), (slice(30, 90), slice(100, 140))]


def detail(picture, place):
    """Mean difference of neighbouring pixels."""
    return np.abs(np.diff(picture[place].astype(int), axis=0)).mean()


@pytest.mark.parametrize(
    ("chosen", "blurred"), [(("car",), [0]), ((8,), [1]), (("car", "person"), [0, 1]), ((3,), [])]
)
@pytest.mark.parametrize("masks", [True, False])
def test_instances_selected_by_class_or_id_are_blurred_beyond_recognition(chosen, blurred, masks):
    frame, detections = noise(), found(BOXES, [7, 8], [1, 0], masks=masks)
    before = frame.copy()
    picture = Redactor(Redaction(blur=chosen), CLASSES).redact(frame, detections)
    np.testing.assert_array_equal(frame, before)
    for row, place in enumerate(INSIDE):
        if row in blurred:
            assert detail(picture, place) < 0.1 * detail(frame, place)
        else:
            np.testing.assert_array_equal(picture[place], frame[place])
    np.testing.assert_array_equal(picture[:, 145:], frame[:, 145:])


def test_instances_at_the_border_are_blurred_within_the_frame():
    boxes = [[-40, -30, 30, 40], [140, 100, 300, 200], [200, 200, 210, 210], [50, 50, 50, 50]]
    redactor = Redactor(Redaction(blur=("person",)), CLASSES)
    for masks in (True, False):
        picture = redactor.redact(noise(), found(boxes, [0, 1, 2, 3], masks=masks))
        for place in ((slice(2, 35), slice(2, 25)), (slice(105, 120), slice(145, 160))):
            assert detail(picture, place) < 0.2 * detail(noise(), place)


def test_only_cut_out_instances_stay_visible():
    frame = noise()
    picture = Redactor(Redaction(cut_out=(8,)), CLASSES).redact(frame, found(BOXES, [7, 8]))
    np.testing.assert_array_equal(picture[32:88, 102:138], frame[32:88, 102:138])
    picture[28:92, 98:142] = 0
    assert not picture.any()


def test_a_damaged_frame_shows_the_previous_redacted_picture():
    redactor = Redactor(Redaction(blur=("person",)), CLASSES)
    assert not redactor.redact(noise(), found([], []), is_damaged=True).any()
    shown = redactor.redact(noise(), found(BOXES, [7, 8]))
    again = redactor.redact(noise(), found([], []), is_damaged=True)
    np.testing.assert_array_equal(again, shown)
    assert redactor.damaged == 2


def test_ids_that_never_occur_are_reported():
    redactor = Redactor(Redaction(blur=(7, 40), cut_out=(8, 41)), CLASSES)
    redactor.redact(noise(), found(BOXES, [7, 8]))
    assert redactor.unseen == {40, 41}


def test_a_class_is_blurred_wherever_it_is_detected_and_an_id_where_it_is_tracked():
    frame = noise()
    detected, tracked = found(BOXES, [7, 8], [1, 1]), found(BOXES[:1], [7], [1])
    by_class = Redactor(Redaction(blur=(CLASSES[1],)), CLASSES).redact(frame, tracked, detected)
    by_id = Redactor(Redaction(blur=(7, 8)), CLASSES).redact(frame, tracked, detected)
    assert detail(by_class, INSIDE[0]) < 0.1 * detail(frame, INSIDE[0])
    assert detail(by_class, INSIDE[1]) < 0.1 * detail(frame, INSIDE[1])
    np.testing.assert_array_equal(by_id[INSIDE[0]], by_class[INSIDE[0]])
    np.testing.assert_array_equal(by_id[INSIDE[1]], frame[INSIDE[1]])
