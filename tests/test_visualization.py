"""Overlays: masks, labels and traces of tracked instances."""

import pickle

import numpy as np
import pytest
import supervision as sv
import torch

from queryinst_vis import drawing
from queryinst_vis.drawing import DrawingStyle
from queryinst_vis.structures import Detections
from queryinst_vis.visualization import Overlay, to_supervision, track_colour
from tests.overlay_support import CLASSES, GREY, HEIGHT, WIDTH, found, grey_frame


def changed_pixels(picture):
    """Where a picture differs from the grey frame, as (rows, columns)."""
    return np.nonzero((picture != GREY).any(axis=2))


# Colours


def test_colours_are_stable_and_differ_between_neighbours():
    colours = [track_colour(track_id) for track_id in range(12)]
    assert colours == [track_colour(track_id) for track_id in range(12)]
    assert len(set(colours)) == 12
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)


def test_ids_beyond_the_palette_have_colours_too():
    assert track_colour(10**9) in {track_colour(track_id) for track_id in range(12)}


# To supervision


def test_detections_convert_to_supervision():
    detections = found([[10, 20, 50, 60], [0, 0, 9, 9]], [7, 3], [1, 0], [0.75, 0.5])
    exchanged = to_supervision(detections)
    assert isinstance(exchanged, sv.Detections)
    np.testing.assert_array_equal(exchanged.xyxy, [[10, 20, 50, 60], [0, 0, 9, 9]])
    np.testing.assert_array_equal(exchanged.confidence, [0.75, 0.5])
    np.testing.assert_array_equal(exchanged.class_id, [1, 0])
    np.testing.assert_array_equal(exchanged.tracker_id, [7, 3])
    np.testing.assert_array_equal(exchanged.mask, detections.masks().numpy())
    assert exchanged.mask[0, 20:60, 10:50].all() and exchanged.mask[0].sum() == 40 * 40


def test_missing_fields_are_none_in_supervision():
    detections = found([[10, 20, 50, 60]], [0], masks=False)
    detections.track_ids = None
    exchanged = to_supervision(detections)
    assert exchanged.mask is None and exchanged.tracker_id is None


@pytest.mark.parametrize("count", [0, 1, 40])
def test_masks_are_drawn_as_supervision_draws_them(count):
    generator = torch.Generator().manual_seed(count)
    corners = (
        torch.rand(count, 2, generator=generator) * 140 - 30
    )  # in, around and beyond the frame
    sides = torch.rand(count, 2, generator=generator) * 60
    sides[::7] = 0
    detections = Detections(
        torch.cat([corners, corners + sides], 1),
        torch.rand(count, generator=generator),
        torch.zeros(count, dtype=torch.int64),
        (70, 90),
        mask_logits=torch.randn(count, 28, 28, generator=generator),
    )
    detections.track_ids = torch.arange(count)
    frame = np.random.default_rng(count).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    exchanged = to_supervision(detections)
    swapped = sv.ColorPalette([sv.Color(*track_colour(i)[::-1]) for i in range(12)])
    expected = frame.copy()
    for annotator in (
        sv.MaskAnnotator(swapped, opacity=0.45, color_lookup=sv.ColorLookup.TRACK),
        sv.PolygonAnnotator(swapped, thickness=2, color_lookup=sv.ColorLookup.TRACK),
    ):
        expected = annotator.annotate(expected, exchanged)
    drawn = frame.copy()
    colours = [track_colour(i) for i in range(count)]
    drawing.draw_masks(drawn, [m.region for m in detections.instance_masks()], colours, 2)
    np.testing.assert_array_equal(drawn, expected)
    ours, theirs = (Overlay(["thing"]).draw(frame, each) for each in (detections, exchanged))
    np.testing.assert_array_equal(ours, theirs)


def test_class_names_are_passed_to_supervision():
    detections = found([[10, 20, 50, 60], [0, 0, 9, 9]], [7, 3], [1, 0])
    assert "class_name" not in to_supervision(detections).data
    detections.class_names = CLASSES
    assert to_supervision(detections)["class_name"].tolist() == ["car", "person"]
    assert to_supervision(detections[[]])["class_name"].tolist() == []


def test_empty_detections_convert_to_supervision():
    exchanged = to_supervision(found([], []))
    assert len(exchanged) == 0
    assert exchanged.mask.shape == (0, HEIGHT, WIDTH)


# Overlay


def test_masks_are_blended_in_the_colour_of_their_track():
    picture = Overlay(CLASSES, trace_length=1).draw(grey_frame(), found([[40, 40, 120, 110]], [1]))
    inside = picture[70:100, 60:100].reshape(-1, 3)
    expected = 0.45 * np.array(track_colour(1)) + 0.55 * GREY
    np.testing.assert_allclose(inside.mean(axis=0), expected, atol=1.5)


def test_outlines_have_the_full_colour_in_red_green_blue_order():
    red, green, blue = track_colour(1)
    assert red > green > blue  # orange: any mix-up of the channels would show
    picture = Overlay(CLASSES).draw(grey_frame(), found([[40, 40, 120, 110]], [1]))
    np.testing.assert_array_equal(picture[80, 40], track_colour(1))


def test_a_track_keeps_its_colour_in_any_order():
    overlay = Overlay(CLASSES)
    for detections in (
        found([[10, 60, 50, 110], [90, 60, 130, 110]], [4, 1]),
        found([[90, 60, 130, 110], [10, 60, 50, 110]], [1, 4]),
    ):
        picture = overlay.draw(grey_frame(), detections)
        np.testing.assert_array_equal(picture[85, 10], track_colour(4))
        np.testing.assert_array_equal(picture[85, 90], track_colour(1))


def test_small_masks_are_drawn_above_large_ones_around_them():
    for order in ([0, 1], [1, 0]):
        detections = found([[20, 30, 150, 115], [70, 60, 100, 90]], [0, 1])[order]
        picture = Overlay(CLASSES).draw(grey_frame(), detections)
        np.testing.assert_array_equal(picture[75, 70], track_colour(1))


def test_nothing_is_drawn_outside_masks_and_labels():
    picture = Overlay(CLASSES).draw(grey_frame(), found([[40, 60, 60, 90]], [0]))
    rows, columns = changed_pixels(picture)
    assert rows.min() >= 30 and rows.max() <= 92 and columns.min() >= 38
    assert (picture[62:88, 65:] == GREY).all()


def listen_to_labels(monkeypatch):
    """Record the labels that are drawn."""
    written = []
    draw = drawing.overlay.draw_labels

    def listen(scene, boxes, texts, *style):
        written.extend(texts)
        draw(scene, boxes, texts, *style)

    monkeypatch.setattr(drawing.overlay, "draw_labels", listen)
    return written


def test_labels_name_identity_class_and_score(monkeypatch):
    written = listen_to_labels(monkeypatch)
    detections = found([[10, 60, 50, 110], [90, 60, 130, 110]], [4, 12], [1, 0], [0.874, 1.0])
    Overlay(CLASSES).draw(grey_frame(), detections)
    assert written == ["#4 car 0.87", "#12 person 1.00"]


def test_the_label_of_an_instance_at_the_top_stays_in_the_frame():
    def label_rows(top):
        """How many rows are filled further than the outline of the narrow mask reaches."""
        picture = Overlay(CLASSES).draw(grey_frame(), found([[40, top, 60, top + 40]], [0]))
        return ((picture == track_colour(0)).all(axis=2).sum(axis=1) > 30).sum()

    whole = label_rows(60)
    assert whole > 8
    assert [label_rows(top) for top in (-10, 0, 5)] == pytest.approx([whole] * 3, abs=1)


def test_labels_of_neighbours_do_not_cover_one_another():
    """Two labels at almost one place take up at least about twice the room of one."""

    def label_sizes(count):
        detections = found([[40, 60 + 4 * i, 60, 100] for i in range(count)], list(range(count)))
        picture = Overlay(CLASSES).draw(grey_frame(), detections)[:, 65:]  # right of the mask
        return [(picture == track_colour(i)).all(axis=2).sum() for i in range(count)]

    [alone] = label_sizes(1)
    assert alone > 100
    assert min(label_sizes(2)) > 0.7 * alone


def test_traces_follow_the_bottom_of_the_box_for_a_limited_time():
    overlay = Overlay(CLASSES, trace_length=3)
    for x in (10, 40, 70, 100):
        picture = overlay.draw(grey_frame(), found([[x, 50, x + 20, 100]], [1]))
    path = (picture[99:102] == track_colour(1)).all(axis=2).any(axis=0)
    assert path[55:100].all()  # between the feet of the last three frames
    assert not path[:45].any()  # the first frame is forgotten


def test_traces_do_not_grow_with_the_video():
    overlay, sizes = Overlay(CLASSES, trace_length=5), []
    for number in range(40):
        overlay.draw(grey_frame(), found([[10, 50, 30, 100], [60, 50, 90, 100]], [number, 99]))
        sizes.append(len(pickle.dumps(overlay)))
    assert max(sizes[20:]) <= 1.1 * max(sizes[:20])


def test_a_video_is_drawn_as_supervision_draws_it():
    """The whole picture except labels, which are placed differently."""
    generator = np.random.default_rng(0)
    palette = sv.ColorPalette([sv.Color(*track_colour(i)[::-1]) for i in range(12)])
    by_track = sv.ColorLookup.TRACK
    thickness = sv.calculate_optimal_line_thickness((WIDTH, HEIGHT))
    annotators = (
        sv.MaskAnnotator(palette, opacity=0.45, color_lookup=by_track),
        sv.PolygonAnnotator(palette, thickness, by_track),
        sv.BoxAnnotator(palette, thickness, by_track),
        sv.TraceAnnotator(palette, sv.Position.BOTTOM_CENTER, 4, thickness, color_lookup=by_track),
    )
    parts = ["mask", "outline", "box", "trace"]
    overlay = Overlay(CLASSES, trace_length=4, style=DrawingStyle.of(parts))
    boxes = generator.uniform(0, 100, (6, 1)) + np.array([[0, 0, 30, 40]])
    for number in range(14):
        boxes += generator.normal(0, 4, (6, 1))
        shown = [] if number in (5, 6, 7, 8, 9) else np.flatnonzero(generator.random(6) < 0.7)
        detections = found(boxes[shown].tolist(), list(shown))
        frame = generator.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        expected = frame.copy()
        for annotator in annotators:
            expected = annotator.annotate(expected, to_supervision(detections))
        np.testing.assert_array_equal(overlay.draw(frame, detections), expected)


def test_planned_drawings_can_be_rendered_in_any_order():
    boxes = [[[10 + 4 * i, 50, 40 + 4 * i, 100]] for i in range(5)]
    all_detections = [found(each, [1]) for each in boxes]
    overlay, other = Overlay(CLASSES), Overlay(CLASSES)
    expected = [other.draw(grey_frame(), each) for each in all_detections]
    planned = [overlay.plan(each) for each in all_detections]
    for number in (3, 0, 4, 2, 1):
        np.testing.assert_array_equal(planned[number](grey_frame()), expected[number])


def test_detections_without_masks_are_drawn_as_boxes():
    detections = found([[40, 60, 80, 100]], [1], masks=False)
    picture = Overlay(CLASSES).draw(grey_frame(), detections)
    np.testing.assert_array_equal(picture[80, 40], track_colour(1))
    assert (picture[70:90, 50:70] == GREY).all()


def test_a_frame_without_detections_is_unchanged():
    overlay = Overlay(CLASSES)
    for _ in range(3):
        np.testing.assert_array_equal(overlay.draw(grey_frame(), found([], [])), grey_frame())


def test_the_drawn_frame_is_a_copy():
    frame = grey_frame()
    picture = Overlay(CLASSES).draw(frame, found([[40, 40, 120, 110]], [1]))
    np.testing.assert_array_equal(frame, grey_frame())
    assert not np.shares_memory(frame, picture)


@pytest.mark.parametrize(
    "box",
    [
        [-30, -30, 20, 20],
        [150, 100, 400, 300],
        [-500, -500, -400, -400],
        [500, 500, 600, 600],
        [50, 50, 50, 50],
        [-50, -50, 400, 400],
    ],
)
def test_boxes_beyond_the_frame_and_without_area_are_clipped(box):
    overlay = Overlay(CLASSES)
    detections = found([box, [40, 60, 80, 100]], [0, 1])
    for _ in range(2):
        picture = overlay.draw(grey_frame(), detections)
        assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8
        np.testing.assert_array_equal(picture[80, 40], track_colour(1))


def test_line_width_scales_with_the_frame():
    widths = []
    for scale in (1, 9):
        detections = found([[40 * scale, 60 * scale, 80 * scale, 100 * scale]], [1], masks=False)
        picture = Overlay(CLASSES).draw(grey_frame(HEIGHT * scale, WIDTH * scale), detections)
        widths.append((picture[90 * scale] == track_colour(1)).all(axis=1).sum())
    assert widths[1] > widths[0] > 0


def test_untracked_detections_have_one_colour_each_and_no_id(monkeypatch):
    written = listen_to_labels(monkeypatch)
    detections = found([[10, 60, 50, 110], [90, 60, 130, 110]], [4, 4], [1, 0], [0.874, 1.0])
    detections.track_ids = None
    overlay = Overlay(CLASSES)
    for _ in range(2):
        picture = overlay.draw(grey_frame(), detections)
    np.testing.assert_array_equal(picture[85, 10], track_colour(0))
    np.testing.assert_array_equal(picture[85, 90], track_colour(1))
    assert written == ["car 0.87", "person 1.00"] * 2


def test_supervision_detections_without_classes_are_refused():
    nameless = sv.Detections(xyxy=np.zeros((1, 4)), tracker_id=np.array([0]))
    with pytest.raises(ValueError, match="no class_id"):
        Overlay(CLASSES).draw(grey_frame(), nameless)
