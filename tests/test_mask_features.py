"""Pictures of mask features before and after dynamic convolution (Fig. 4 of the paper)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import CLASSES, HEIGHT, WIDTH, draw_frame, tiny_config

from queryinst_vis import cli
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.mask_features import mask_features
from queryinst_vis.models.build import build_model
from queryinst_vis.structures import Detections
from queryinst_vis.visualization.mask_features import draw_mask_features, principal_component
from tests.closeness import assert_equal_to_rounding


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
    """Write weights of a tiny model with the given mask head settings."""

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


def assert_png(path):
    assert path.read_bytes().startswith(b"\x89PNG")
    assert cv2.imread(str(path)) is not None


# Feature extraction


@pytest.mark.parametrize(
    "mask", [{}, {"share_query": False}, {"share_attention": False}], ids=["shared", "query", "msa"]
)
def test_mask_features_reproduce_the_mask_logits(mask):
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


def test_extracting_features_changes_neither_detections_nor_model():
    model, config = tiny_model()
    config.inference.one_label_per_query = True
    (expected,) = Detector(model, config).detect_frames([draw_frame(0)])
    found, _, _ = mask_features(model, config, draw_frame(0))
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.mask_logits, expected.mask_logits)
    (after,) = Detector(model, config).detect_frames([draw_frame(0)])
    assert torch.equal(after.mask_logits, expected.mask_logits)


# Principal component


def bump(side=14):
    """A zero-mean picture that is bright in the middle."""
    ramp = torch.linspace(-1, 1, side)
    values = torch.exp(-4 * (ramp[:, None] ** 2 + ramp[None, :] ** 2))
    return values - values.mean()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_principal_component_is_bright_inside_the_mask(sign):
    direction = torch.nn.functional.normalize(torch.arange(1.0, 9), dim=0)
    constant = torch.full((8, 1, 1), 100.0)  # far more than what varies: it must not be seen
    features = sign * direction[:, None, None] * bump() + constant
    mask = (bump(28) > 0).float()
    component, share = principal_component(features, mask)
    np.testing.assert_allclose(component, bump().numpy(), atol=1e-4)
    assert share == pytest.approx(1, abs=1e-3)


def test_the_share_is_the_explained_variance():
    wave = torch.linspace(0, 2 * torch.pi, 15)[:-1].sin().expand(14, 14) * 14**-1
    features = torch.stack([2 * wave, wave.T, torch.zeros(14, 14)])  # variances 4 to 1
    component, share = principal_component(features, torch.ones(28, 28))
    np.testing.assert_allclose(abs(component), abs(2 * wave.numpy()), atol=1e-5)
    assert share == pytest.approx(0.8, abs=1e-5)


def test_constant_features_give_a_flat_picture():
    component, share = principal_component(torch.ones(8, 14, 14), torch.ones(28, 28))
    assert (component == 0).all() and share == 0


# Drawing


def instances(boxes):
    count = len(boxes)
    return Detections(
        boxes=torch.tensor(boxes, dtype=torch.float32),
        scores=torch.linspace(0.9, 0.4, count),
        labels=torch.arange(count) % 2,
        image_size=(HEIGHT, WIDTH),
        mask_logits=torch.where(bump(28) > 0, 9.0, -9.0).expand(count, -1, -1),
    )


def test_each_instance_has_a_column_from_image_to_mask(tmp_path, figures):
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


def test_a_box_beyond_the_image_is_shown_unclipped(tmp_path, figures):
    found = instances([[-10, -20.5, 30, 90], [200, 100, 220, 130]])
    features = torch.randn(2, 2, 8, 14, 14)
    draw_mask_features(draw_frame(0), found, *features, CLASSES, tmp_path / "out.png")
    for tile in np.array(figures[0].axes).reshape(4, 2)[:, 0]:
        assert tile.get_xlim() == (-10, 30) and tile.get_ylim() == (90, -20.5)
    assert_png(tmp_path / "out.png")


def test_long_titles_of_narrow_boxes_do_not_overlap(tmp_path, figures):
    found = instances([[10 * i, 0, 10 * i + 3, 60] for i in range(6)])
    names = ["traffic light", "$unbalanced {braces_in_a_very_long_name"]
    features = torch.randn(2, 6, 8, 14, 14)
    draw_mask_features(draw_frame(0), found, *features, names, tmp_path / "out.png")
    boxes = [axes.title.get_window_extent() for axes in figures[0].axes[:6]]
    assert not any(left.overlaps(right) for left, right in pairwise(boxes))
    assert all(figures[0].bbox.y1 >= box.y1 for box in boxes)


# The command


def test_the_command_draws_the_highest_scores_with_each_query_once(
    image, weights, tmp_path, capsys
):
    words = ["plot-mask-features", image, "--weights", weights(), "--device", "cpu"]
    words += ["--score-threshold", 0, "--out", tmp_path / "new" / "out.png"]
    assert cli.main([*map(str, words), "--max", "2"]) == 0
    assert capsys.readouterr().out == f"wrote {words[-1]}: 2 instances\n"
    assert cli.main([*map(str, words), "--max", "100"]) == 0
    assert ": 5 instances" in capsys.readouterr().out  # it has five queries, and two classes
    assert_png(words[-1])


def test_a_model_without_dynamic_convolution_is_refused(image, weights, tmp_path, cli_error):
    out = tmp_path / "out.png"
    words = ["plot-mask-features", image, "--weights", weights(dynamic=False), "--out", out]
    line = cli_error(*words)
    assert "tiny.safetensors" in line and "model.mask.dynamic=true" in line
    assert not out.exists()


def test_no_instance_above_the_threshold_is_refused(image, weights, tmp_path, cli_error):
    out = tmp_path / "out.png"
    words = ["plot-mask-features", image, "--weights", weights(), "--score-threshold", 0.99]
    line = cli_error(*words, "--out", out)
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
def test_bad_input_of_plot_mask_features_is_refused(words, message, image, cli_error, monkeypatch):
    monkeypatch.chdir(image.parent)
    Path("text.png").write_text("not an image")
    before = set(Path().iterdir())
    assert message in cli_error("plot-mask-features", *words)
    assert set(Path().iterdir()) == before
