"""The paper's pictures from our model: mask features (Fig. 4) and AP against speed (Fig. 1)."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tiny import CLASSES, HEIGHT, WIDTH, draw_frame, tiny_config

from queryinst_vis import cli
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.errors import InputError
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.mask_features import mask_features
from queryinst_vis.models.build import build_model
from queryinst_vis.structures import Detections
from queryinst_vis.visualization.mask_features import draw_mask_features, principal_component
from queryinst_vis.visualization.speed_plot import (
    SpeedPoint,
    draw_speed_plot,
    place_labels,
    read_speed_point,
    speed_chart,
)
from tests.closeness import assert_equal_to_rounding

ROOT = Path(__file__).resolve().parent.parent
TABLE_3 = sorted((ROOT / "benchmarks" / "paper_table3").glob("*.json"))


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved, to be read without looking at pixels."""
    saved, save = [], Figure.savefig

    def listen(figure, *arguments, **options):
        saved.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", listen)
    return saved


def tiny_model(**mask):
    torch.manual_seed(0)
    config = tiny_config(track=False)
    for key, value in mask.items():
        setattr(config.model.mask, key, value)
    model = build_model(config)
    for stage in model.stages:  # where the initial boxes are: inside the image
        torch.nn.init.zeros_(stage.box_predictor.weight)
        torch.nn.init.zeros_(stage.box_predictor.bias)
    return model.eval(), config


@pytest.fixture
def weights(tmp_path):
    """Write weights of a tiny model whose mask heads are as asked for."""

    def write(**mask):
        path = tmp_path / "tiny.safetensors"
        save_weights(path, *tiny_model(**mask))
        return path

    return write


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), draw_frame(0)[..., ::-1])
    return path


@pytest.fixture
def complaint(capsys):
    """Run a command line that must be refused: exit status 2 and exactly one line on stderr."""

    def run_and_read(*words):
        status = cli.main([str(word) for word in words])
        captured = capsys.readouterr()
        assert (status, captured.out, captured.err.count("\n")) == (2, "", 1)
        return captured.err

    return run_and_read


def assert_png(path):
    assert path.read_bytes().startswith(b"\x89PNG")
    assert cv2.imread(str(path)) is not None


# Mask features: which


@pytest.mark.parametrize(
    "mask", [{}, {"share_query": False}, {"share_attention": False}], ids=["shared", "query", "msa"]
)
def test_features_are_those_behind_the_masks(mask):
    model, config = tiny_model(**mask)
    found, before, after = mask_features(model, config, draw_frame(0))
    assert len(found) == config.model.num_queries
    head = model.mask_heads[-1]
    with torch.inference_mode():
        logits = head.predict(head.refine(after), found.labels)
    torch.testing.assert_close(logits, found.mask_logits)
    assert not torch.allclose(before, after)


def test_features_before_dynconv_are_pooled_from_the_fpn():
    model, config = tiny_model()
    frame = draw_frame(0)  # has the size of the network input, so boxes need no scaling
    found, before, _ = mask_features(model, config, frame)
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (config.model.backbone.mean, config.model.backbone.std)
    )
    with torch.inference_mode():
        pixels = (torch.from_numpy(frame).permute(2, 0, 1) - mean) / std
        pooled = model.mask_heads[-1].roi(model.extract_features(pixels[None]), [found.boxes])
    assert_equal_to_rounding(before, pooled)


def test_looking_changes_neither_the_detections_nor_the_model():
    model, config = tiny_model()
    config.inference.one_label_per_query = True
    (expected,) = Detector(model, config).detect_frames([draw_frame(0)])
    found, _, _ = mask_features(model, config, draw_frame(0))
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.mask_logits, expected.mask_logits)
    (after,) = Detector(model, config).detect_frames([draw_frame(0)])
    assert torch.equal(after.mask_logits, expected.mask_logits)


# Mask features: as one picture per instance


def bump(side=14):
    """A picture of mean zero, bright in the middle."""
    ramp = torch.linspace(-1, 1, side)
    values = torch.exp(-4 * (ramp[:, None] ** 2 + ramp[None, :] ** 2))
    return values - values.mean()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_component_is_what_varies_and_bright_where_the_mask_is(sign):
    direction = torch.nn.functional.normalize(torch.arange(1.0, 9), dim=0)
    constant = torch.full((8, 1, 1), 100.0)  # far more than what varies: it must not be seen
    features = sign * direction[:, None, None] * bump() + constant
    mask = (bump(28) > 0).float()
    component, share = principal_component(features, mask)
    np.testing.assert_allclose(component, bump().numpy(), atol=1e-4)
    assert share == pytest.approx(1, abs=1e-3)


def test_the_share_says_how_much_is_not_seen():
    wave = torch.linspace(0, 2 * torch.pi, 15)[:-1].sin().expand(14, 14) * 14**-1
    features = torch.stack([2 * wave, wave.T, torch.zeros(14, 14)])  # variances 4 to 1
    component, share = principal_component(features, torch.ones(28, 28))
    np.testing.assert_allclose(abs(component), abs(2 * wave.numpy()), atol=1e-5)
    assert share == pytest.approx(0.8, abs=1e-5)


def test_features_without_variation_are_a_flat_picture():
    component, share = principal_component(torch.ones(8, 14, 14), torch.ones(28, 28))
    assert (component == 0).all() and share == 0


# Mask features: drawn


def instances(boxes):
    count = len(boxes)
    return Detections(
        boxes=torch.tensor(boxes, dtype=torch.float32),
        scores=torch.linspace(0.9, 0.4, count),
        labels=torch.arange(count) % 2,
        image_size=(HEIGHT, WIDTH),
        mask_logits=torch.where(bump(28) > 0, 9.0, -9.0).expand(count, -1, -1),
    )


def test_a_column_per_instance_from_image_to_mask(tmp_path, figures):
    found = instances([[8, 8, 32, 28], [60, 34, 84, 58]])
    torch.manual_seed(0)
    before, after = torch.randn(2, 2, 16, 14, 14)
    draw_mask_features(draw_frame(0), found, before, after, CLASSES, tmp_path / "out.png")
    assert_png(tmp_path / "out.png")
    tiles = np.array(figures[0].axes).reshape(4, 2)
    assert [tile.get_title() for tile in tiles[0]] == ["box 0.90", "crate 0.40"]
    for row, features in ((1, before), (2, after)):
        for column in range(2):
            component, share = principal_component(features[column], found.mask_logits[column])
            shown = tiles[row, column].images[0].get_array()
            np.testing.assert_allclose(abs(shown), abs(component), atol=1e-5)
            assert tiles[row, column].get_xlabel() == f"{share:.0%}"
    for tile in tiles[:, 1]:
        assert tile.get_xlim() == (60, 84) and tile.get_ylim() == (58, 34)
    image, masked = (np.asarray(tiles[row, 1].images[0].get_array()) for row in (0, 3))
    assert (image == draw_frame(0)[34:58, 60:84]).all()
    assert (masked[12, 12] == image[12, 12]).all()  # inside the mask
    assert (masked[0, 0] > image[0, 0]).any() and masked[0, 0].min() > 200  # outside, faded


def test_a_box_that_reaches_beyond_the_image_is_shown_as_it_is(tmp_path, figures):
    found = instances([[-10, -20.5, 30, 90], [200, 100, 220, 130]])
    features = torch.randn(2, 2, 8, 14, 14)
    draw_mask_features(draw_frame(0), found, *features, CLASSES, tmp_path / "out.png")
    for tile in np.array(figures[0].axes).reshape(4, 2)[:, 0]:
        assert tile.get_xlim() == (-10, 30) and tile.get_ylim() == (90, -20.5)
    assert_png(tmp_path / "out.png")


def test_titles_do_not_overlap_even_if_boxes_are_narrow_and_names_long(tmp_path, figures):
    found = instances([[10 * i, 0, 10 * i + 3, 60] for i in range(6)])
    names = ["traffic light", "$unbalanced {braces_in_a_very_long_name"]
    features = torch.randn(2, 6, 8, 14, 14)
    draw_mask_features(draw_frame(0), found, *features, names, tmp_path / "out.png")
    boxes = [axes.title.get_window_extent() for axes in figures[0].axes[:6]]
    assert not any(left.overlaps(right) for left, right in pairwise(boxes))
    assert all(figures[0].bbox.y1 >= box.y1 for box in boxes)


# Mask features: the command


def test_the_command_draws_the_strongest_and_no_query_twice(image, weights, tmp_path, capsys):
    words = ["plot-mask-features", image, "--weights", weights(), "--device", "cpu"]
    words += ["--score-threshold", 0, "--out", tmp_path / "new" / "out.png"]
    assert cli.main([*map(str, words), "--max", "2"]) == 0
    assert capsys.readouterr().out == f"wrote {words[-1]}: 2 instances\n"
    assert cli.main([*map(str, words), "--max", "100"]) == 0
    assert ": 5 instances" in capsys.readouterr().out  # it has five queries, and two classes
    assert_png(words[-1])


def test_a_vanilla_head_has_no_dynconv_to_look_at(image, weights, tmp_path, complaint):
    out = tmp_path / "out.png"
    words = ["plot-mask-features", image, "--weights", weights(dynamic=False), "--out", out]
    line = complaint(*words)
    assert "tiny.safetensors" in line and "model.mask.dynamic=true" in line
    assert not out.exists()


def test_nothing_to_draw_is_said(image, weights, tmp_path, complaint):
    out = tmp_path / "out.png"
    words = ["plot-mask-features", image, "--weights", weights(), "--score-threshold", 0.99]
    line = complaint(*words, "--out", out)
    assert "image.png: no instance has a score of 0.99 or more" in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.png", "--out", "o.png"], "image none.png: no such file"),
        (["text.png", "--out", "o.png"], "image text.png: not a readable image"),
        (["image.png", "--weights", "poeple", "--out", "o.png"], "weights 'poeple': neither"),
        (["image.png", "--out", "o.jpg"], "--out: expected the name of a .png file, got 'o.jpg'"),
        (["image.png", "--max", "0", "--out", "o.png"], "expected a positive integer"),
        (["image.png"], "required: --out"),
    ],
)
def test_wrong_input_of_plot_mask_features(words, message, image, complaint, monkeypatch):
    monkeypatch.chdir(image.parent)
    Path("text.png").write_text("not an image")
    before = set(Path().iterdir())
    assert message in complaint("plot-mask-features", *words)
    assert set(Path().iterdir()) == before


# AP against speed: files


def write(folder, text):
    path = folder / "point.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


GOOD = {"name": "ours", "fps": 12.5, "AP": 0.346}


def test_a_benchmark_file_may_hold_more(tmp_path):
    assert read_speed_point(write(tmp_path, GOOD)) == SpeedPoint("ours", 12.5, 0.346)
    more = {**GOOD, "group": "g", "device": "H200", "stages": {"decode": 0.1}, "AP50": 0.5}
    assert read_speed_point(write(tmp_path, more)) == SpeedPoint("ours", 12.5, 0.346, "g", "H200")
    nothing_known = {**GOOD, "group": None, "device": None}
    assert read_speed_point(write(tmp_path, nothing_known)) == SpeedPoint("ours", 12.5, 0.346)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as JSON"),
        ([GOOD], "expected a JSON object with name, fps and AP"),
        ({"name": "ours", "AP": 0.3}, "'fps' is missing"),
        ({"name": "ours", "fps": 3}, "'AP' is missing"),
        ({"fps": 3, "AP": 0.3}, "'name' is missing"),
        ({**GOOD, "name": " "}, "name must be a text, not ' '"),
        ({**GOOD, "name": None}, "name must be a text, not None"),
        ({**GOOD, "group": 3}, "group must be a text, not 3"),
        ({**GOOD, "device": ["cpu"]}, "device must be a text, not ['cpu']"),
        ({**GOOD, "fps": 0}, "fps must be a number above 0"),
        ({**GOOD, "fps": "fast"}, "fps must be a number above 0, up to a million, not 'fast'"),
        ({**GOOD, "fps": True}, "fps must be a number above 0"),
        ('{"name": "n", "AP": 0.1, "fps": NaN}', "fps must be a number above 0"),
        ('{"name": "n", "AP": 0.1, "fps": 1' + 400 * "0" + "}", "fps must be a number above 0"),
        ({**GOOD, "AP": 34.6}, "AP must be a number from 0 to 1 (0.346, not 34.6), not 34.6"),
        ({**GOOD, "AP": -1}, "AP must be a number from 0 to 1"),
        ({**GOOD, "AP": None}, "AP must be a number from 0 to 1"),
    ],
)
def test_wrong_benchmark_files_are_refused_in_one_line(content, message, tmp_path, complaint):
    good, bad = tmp_path / "good.json", write(tmp_path, content)
    good.write_text(json.dumps(GOOD))
    line = complaint("plot-speed", good, bad, "--out", tmp_path / "out.png")
    assert str(bad) in line and message in line
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.json", "--out", "o.png"], "benchmark file none.json: no such file"),
        (["--out", "o.png"], "required: FILE.json"),
        (["none.json", "--out", "o.pdf"], "--out: expected the name of a .png file, got 'o.pdf'"),
    ],
)
def test_wrong_input_of_plot_speed(words, message, tmp_path, monkeypatch, complaint):
    monkeypatch.chdir(tmp_path)
    assert message in complaint("plot-speed", *words)
    assert list(tmp_path.iterdir()) == []


def test_the_papers_table_3_as_published():
    points = {point.name: point for point in map(read_speed_point, TABLE_3)}
    assert len(points) == len(TABLE_3) == 9  # CompFeat's row has no speed
    ours = points["QueryInst-VIS"]
    assert (ours.average_precision, ours.fps, ours.device) == (0.346, 32.3, "Titan Xp")
    gains = {  # section 4.3 names these two
        name: round(100 * (ours.average_precision - points[name].average_precision), 1)
        for name in ("MaskTrack R-CNN", "SipMask-VIS")
    }
    assert gains == {"MaskTrack R-CNN": 4.3, "SipMask-VIS": 2.1}


# AP against speed: drawn


def drawn(points, path):
    """The layers of the chart that is drawn: lines, points and labels, with their rows."""
    draw_speed_plot(points, path)
    assert_png(path)
    chart = speed_chart(points).to_dict()
    data = chart.get("data", {})
    return [(layer, chart["datasets"][layer.get("data", data)["name"]]) for layer in chart["layer"]]


def test_points_stand_at_their_speed_and_percent_and_groups_are_joined(tmp_path):
    points = [
        SpeedPoint("large", 10, 0.5, "family"),
        SpeedPoint("alone", 15, 0.3),
        SpeedPoint("small", 30, 0.25, "family"),
        SpeedPoint("alone", 20, 0.3),
    ]
    (line, joined), (marks, rows), (names, labels) = drawn(points, tmp_path / "out.png")
    assert [(row["fps"], row["AP"]) for row in rows] == [(10, 50), (15, 30), (30, 25), (20, 30)]
    assert line["mark"]["type"] == "line" and line["encoding"]["color"]["field"] == "group"
    groups = [row["group"] for row in joined]
    assert groups[0] == groups[2] and len(set(groups)) == 3  # and not the two of one name
    assert [row["name"] for row in labels] == ["large", "alone", "small", "alone"]
    assert names["encoding"]["text"]["field"] == "name"
    assert marks["encoding"]["x"]["title"] == "frames per second"
    assert marks["encoding"]["y"]["title"] == "AP (%)"
    assert marks["encoding"]["x"]["scale"]["domain"][0] == 0


def test_every_device_has_its_marker_and_its_line_in_the_legend(tmp_path):
    points = [
        SpeedPoint("a", 10, 0.5, device="Titan Xp"),
        SpeedPoint("b", 10, 0.4, device="CPU, 2 cores, $1"),
        SpeedPoint("c", 20, 0.3, device="Titan Xp"),
        SpeedPoint("d", 30, 0.3),
    ]
    _, (marks, rows), _ = drawn(points, tmp_path / "out.png")
    shape = marks["encoding"]["shape"]
    assert shape["scale"]["domain"] == ["Titan Xp", "CPU, 2 cores, $1", "device not given"]
    assert len(set(shape["scale"]["range"])) == 3
    assert [row["device"] for row in rows][2] == "Titan Xp"
    assert shape["legend"]["title"] == "speed measured on"


def test_no_legend_where_no_device_is_known(tmp_path):
    _, (marks, _), _ = drawn([SpeedPoint("$a {name", 10, 0.5)], tmp_path / "out.png")
    assert marks["encoding"]["shape"]["legend"] is None


def overlapping(boxes):
    """Pairs of boxes that overlap."""
    return [
        (a, b)
        for i, a in enumerate(boxes)
        for b in boxes[:i]
        if min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])
    ]


def test_labels_of_table_3_cover_neither_each_other_nor_points_and_stay_inside():
    points = [read_speed_point(path) for path in TABLE_3]
    boxes = place_labels(points)
    assert overlapping(boxes) == []
    plot = speed_chart(points).to_dict()
    fastest, highest = (
        plot["layer"][1]["encoding"][axis]["scale"]["domain"][1] for axis in ("x", "y")
    )
    lowest = plot["layer"][1]["encoding"]["y"]["scale"]["domain"][0]
    for left, top, right, bottom in boxes:
        assert left >= 0 and right <= plot["width"] and top >= 0 and bottom <= plot["height"]
        for point in points:
            x = point.fps / fastest * plot["width"]
            share = (highest - 100 * point.average_precision) / (highest - lowest)
            y = share * plot["height"]
            assert not (left <= x <= right and top <= y <= bottom)


def test_labels_of_neighbours_give_way():
    points = [SpeedPoint(f"model number {i}", 20 + 0.2 * i, 0.4) for i in range(4)]
    points += [SpeedPoint("slow", 1, 0.2), SpeedPoint("fast", 60, 0.6)]
    assert overlapping(place_labels(points)) == []


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*out.png"):
        draw_speed_plot([SpeedPoint("a", 1, 0.5)], tmp_path / "file" / "out.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
