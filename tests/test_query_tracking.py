"""Tracking by query embeddings, and the track head of QueryTrack."""

import copy
import json
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.cli import main
from queryinst_vis.config import InferenceConfig, LossConfig
from queryinst_vis.data.synthetic.render import render
from queryinst_vis.data.synthetic.scene import draw_scene
from queryinst_vis.data.synthetic.settings import SyntheticSettings
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.models.build import build_model
from queryinst_vis.models.cpu.training_form import to_training_form
from queryinst_vis.models.postprocess import detect
from queryinst_vis.structures import Batch, Target
from queryinst_vis.training import evaluate as evaluation
from queryinst_vis.training.step import TrainingStep
from queryinst_vis.video import VideoWriter
from tests.tiny import HEIGHT, WIDTH, draw_frame, rectangles, tiny_config, write_videos

# --- image-only models ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def image_model():
    torch.manual_seed(0)
    return build_model(tiny_config(track=False)).eval()


def test_query_embeddings_are_the_last_stage_queries_of_kept_detections(image_model):
    torch.manual_seed(1)
    images, sizes = torch.randn(2, 3, HEIGHT, WIDTH), [(HEIGHT, WIDTH), (HEIGHT, WIDTH - 20)]
    settings = {"score_threshold": 0.0, "max_per_image": 3}
    found = detect(image_model, images, sizes, sizes, **settings, embedding="query")
    with torch.no_grad():
        last = image_model(images, sizes).stages[-1]
    for image, detections in enumerate(found):
        queries = last.class_logits[image].sigmoid().flatten().topk(3).indices // 2
        assert torch.equal(detections.embeddings, last.queries[image][queries])
    assert detect(image_model, images, sizes, sizes, **settings)[0].embeddings is None


def test_masktrack_without_a_track_head_is_refused_with_alternatives(image_model):
    config = tiny_config(track=False)
    config.tracking.rule = "masktrack"
    message = (
        "no track head, which tracking.rule=masktrack needs: leave the rule out, or choose from: "
        "query, bytetrack, ocsort;"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        VideoTracker(Detector(image_model, config))


def test_an_image_model_without_a_rule_falls_back_to_box_tracking_with_a_warning(image_model):
    message = "no track head: tracking.rule=bytetrack associates boxes only"
    with pytest.warns(InputWarning, match=message):
        tracker = VideoTracker(Detector(image_model, tiny_config(track=False)))
    for _ in range(2):
        found = tracker.update(draw_frame(0))
        assert found.embeddings is None and found.track_ids.tolist() == [0, 1, 2, 3, 4]


def test_a_named_rule_and_a_track_head_need_no_warning(image_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VideoTracker(Detector(image_model, image_config()))
        VideoTracker(Detector(build_model(tiny_config()), tiny_config()))


def image_config(**arguments):
    config = tiny_config(track=False, **arguments)
    config.tracking.rule = "query"
    return config


def test_in_videos_each_query_gives_one_instance(image_model):
    config = image_config()
    config.inference = InferenceConfig(score_threshold=0.0, max_per_image=100)
    assert not config.inference.one_label_per_query
    (as_image,) = Detector(image_model, config).detect_frames([draw_frame(0)])
    assert len(as_image) == 5 * 2  # every query under both labels
    tracked = VideoTracker(Detector(image_model, config)).update(draw_frame(0))
    assert len(tracked) == 5


def test_the_rule_is_an_override_of_image_weights(tmp_path, image_model):
    weights = tmp_path / "image.safetensors"
    save_weights(weights, image_model, tiny_config(track=False))
    with pytest.raises(InputError, match="no track head"):
        VideoTracker.from_pretrained(weights, "cpu", ["tracking.rule=masktrack"])
    tracker = VideoTracker.from_pretrained(weights, "cpu", ["tracking.rule=query"])
    assert tracker.update(draw_frame(0)).track_ids.tolist() == [0, 1, 2, 3, 4]


def test_the_track_command_accepts_overrides(tmp_path, image_model, capsys):
    weights, video = tmp_path / "image.safetensors", tmp_path / "clip.mp4"
    save_weights(weights, image_model, tiny_config(track=False))
    with VideoWriter(video, 10) as writer:
        for index in range(2):
            writer.write(draw_frame(index))
    words = ["track", str(video), "--weights", str(weights), "--out", str(tmp_path / "out")]
    words += ["--score-threshold", "0", "--device", "cpu"]
    assert main([*words, "tracking.rule=querry"]) == 2
    assert "unknown rule 'querry'; did you mean query?" in capsys.readouterr().err
    assert main([*words, "tracking.rule=masktrack"]) == 2
    assert "no track head" in capsys.readouterr().err
    anyone = "tracking.match_threshold=-1"  # no detection is so unlike the five tracks to be new
    assert main([*words, "tracking.rule=query", anyone]) == 0
    assert "5 tracks in 2 frames" in capsys.readouterr().out


def test_the_track_command_needs_no_rule_and_names_its_choice_once(tmp_path, image_model, capsys):
    """Older weights name the default rule, which needs a track head."""
    config, weights = tiny_config(track=False), tmp_path / "image.safetensors"
    config.tracking.rule = "masktrack"
    save_weights(weights, image_model, config)
    video, out = tmp_path / "clip.mp4", tmp_path / "out"
    with VideoWriter(video, 10) as writer:
        for index in range(2):
            writer.write(draw_frame(index))
    words = ["track", str(video), "--weights", str(weights), "--out", str(out), "--device", "cpu"]
    assert main([*words, "--score-threshold", "0"]) == 0
    said = capsys.readouterr()
    [line] = [line for line in said.err.splitlines() if "tracking.rule" in line]
    assert line.startswith("queryinst-vis: warning: this model has no track head: tracking.rule=")
    assert "tracks in 2 frames" in said.out
    assert len(json.loads((out / "results.json").read_text())) > 0


@pytest.mark.parametrize("rule", ["query", "bytetrack", "ocsort", None])
def test_test_video_accepts_image_weights(tmp_path, image_model, rule):
    weights, out = tmp_path / "image.safetensors", tmp_path / "results.json"
    save_weights(weights, image_model, tiny_config(track=False))
    config = image_config(val=write_videos(tmp_path / "videos"))
    config.tracking.rule = rule
    metrics = evaluation.test_video(config, weights, out, devices=1)
    assert 0 <= metrics["AP"] < 1 and out.is_file()


def test_training_an_image_model_may_be_scored_on_videos(tmp_path):
    config = image_config(val=write_videos(tmp_path / "videos"))
    assert len(evaluation.open_validation_set(config).videos) == 2
    config.tracking.rule = "masktrack"
    with pytest.raises(InputError, match="no track head"):
        evaluation.open_validation_set(config)
    config.tracking.rule = "querry"  # reported before training, not at the first evaluation
    with pytest.raises(InputError, match="rule 'querry'"):
        evaluation.open_validation_set(config)


def test_query_embeddings_alone_track_the_shapes():
    """The shipped detector without its track head keeps identities in a rendered clip."""
    model, config = load_model("shapes", "cpu", ["inference.score_threshold=0.3"])
    model.track_head = None
    config.tracking.rule = "query"
    tracker = VideoTracker(Detector(model, config))
    clip = SyntheticSettings(frames=8, min_objects=3, max_objects=3, meeting=0.0)
    scene = draw_scene(clip, np.random.default_rng(9))
    ids_of_object = {0: [], 1: [], 2: []}
    for frame in render(scene, clip.frames, clip.height, clip.width):
        tracked = tracker.update(frame.image)
        for index, ids in ids_of_object.items():
            overlaps = mask_iou(tracked.masks().numpy(), frame.owner == index)
            if overlaps.max() > 0.5:
                ids.append(int(tracked.track_ids[overlaps.argmax()]))
    for ids in ids_of_object.values():
        assert len(ids) >= 6 and len(set(ids)) == 1, ids_of_object
    assert len({ids[0] for ids in ids_of_object.values()}) == 3


def mask_iou(masks, mask):
    """``(N,)`` IoU of ``(N, H, W)`` masks with one mask."""
    return (masks & mask).sum(axis=(1, 2)) / (masks | mask).sum(axis=(1, 2)).clip(min=1)


# --- QueryTrack's head ----------------------------------------------------------------------


def query_track_config(**arguments):
    config = tiny_config(**arguments)
    config.model.track.dynamic = True
    return config


@pytest.fixture(scope="module")
def query_track_model():
    torch.manual_seed(0)
    model = build_model(query_track_config())
    for stage in model.stages:  # boxes of a new model may lie outside the image
        torch.nn.init.normal_(stage.box_predictor.weight, std=0.01)
    return model


def pairs(count=2, shown=(0, 1)):
    """Frames 0, 1, ... as keys, each with the frame three later as its reference."""

    def half(first, which):
        images, targets = [], []
        for index in range(first, first + count):
            images.append(torch.from_numpy(draw_frame(index)).permute(2, 0, 1) / 128 - 1)
            boxes = [rectangles(index)[i] for i in which]
            masks = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
            for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
                mask[y0:y1, x0:x1] = True
            ids = torch.tensor(which, dtype=torch.int64)
            boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
            targets.append(Target(boxes, ids.clone(), masks, ids + 7, (HEIGHT, WIDTH)))
        return Batch(torch.stack(images), targets)

    return replace(half(0, (0, 1)), reference=half(3, shown))


def step_of(model, both_ways=False):
    return TrainingStep(model, Criterion(LossConfig()), both_ways=both_ways).train()


@pytest.mark.parametrize("both_ways", [False, True])
def test_a_training_step_reaches_head_and_queries(query_track_model, both_ways):
    query_track_model.zero_grad()
    losses = step_of(query_track_model, both_ways)(pairs())
    assert losses["track"] > 0
    losses["track"].backward()
    assert all(p.grad.any() for p in query_track_model.track_head.parameters())
    assert query_track_model.queries.grad.any(), "through q* of the key frame"


def test_the_cpu_form_gives_the_same_training_gradients(query_track_model):
    """Maps of the reference are made without gradient, and read with gradient."""
    losses, gradients = [], []
    for model in (query_track_model, to_training_form(copy.deepcopy(query_track_model))):
        model.zero_grad()
        loss = step_of(model)(pairs())["track"]
        loss.backward()
        losses.append(loss.detach())
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        assert (gradients[1][name] - expected).norm() <= 1e-2 * expected.norm() + 1e-6, name


def test_the_reference_takes_part_without_gradient(query_track_model):
    batch = pairs()
    batch.images.requires_grad_()
    batch.reference.images.requires_grad_()
    step_of(query_track_model)(batch)["track"].backward()
    assert batch.images.grad.any()
    assert batch.reference.images.grad is None
    # the reference matters: another one gives another loss
    other = replace(pairs(), reference=replace(batch.reference, images=-batch.reference.images))
    losses = [step_of(query_track_model).eval()(b)["track"] for b in (pairs(), other)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("shown", [(), (1,)])
def test_the_reference_may_lack_instances_of_the_key_frame(query_track_model, shown):
    losses = step_of(query_track_model)(pairs(shown=shown))
    assert sum(losses.values()).isfinite()
    assert (losses["track"] == 0) == (len(shown) == 0)


def test_bidirectional_track_loss_equals_the_batch_of_both_orders(query_track_model):
    batch = pairs(count=1)
    other = batch.reference
    images, targets = torch.cat((batch.images, other.images)), batch.targets + other.targets
    orders = Batch(images, targets, Batch(images.flip(0), targets[::-1]))
    shared = step_of(query_track_model, both_ways=True).eval()(batch)
    one_way = step_of(query_track_model).eval()(orders)
    assert set(shared) == set(one_way) and shared["track"] > 0
    for name, loss in one_way.items():
        torch.testing.assert_close(shared[name], loss, rtol=1e-4, atol=1e-5)


def test_a_query_head_model_tracks_after_loading_its_checkpoint(tmp_path, query_track_model):
    weights = tmp_path / "query_track.safetensors"
    save_weights(weights, query_track_model, query_track_config())
    model, config = load_model(weights, "cpu")
    assert config.model.track.dynamic
    frames = [draw_frame(0), draw_frame(2)]
    again = Detector(model, config).detect_frames(frames)
    for detections, expected in zip(
        again, Detector(query_track_model.eval(), config).detect_frames(frames), strict=True
    ):
        assert detections.embeddings.shape == (5, 16)
        assert torch.equal(detections.embeddings, expected.embeddings)
    assert VideoTracker(Detector(model, config)).update(frames[0]).track_ids.tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("enabled", False, "model.track.dynamic: needs model.track.enabled=true"),
        ("roi_size", 0, "model.track.roi_size: must be at least 1, is 0"),
        ("embedding_channels", -1, "model.track.embedding_channels: must be at least 1, is -1"),
        ("sampling_ratio", -1, "model.track.sampling_ratio: must be at least 0"),
    ],
)
def test_inconsistent_track_head_settings_are_refused(key, value, message):
    config = query_track_config()
    setattr(config.model.track, key, value)
    with pytest.raises(InputError, match=message):
        build_model(config)
