"""From frames and whole sets to tracks, result files and scores."""

import json
import zipfile

import numpy as np
import pytest
import torch

from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.config import DatasetConfig
from queryinst_vis.errors import InputError
from queryinst_vis.inference import detector
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.masks import decode_rle
from queryinst_vis.training import evaluate as evaluation
from queryinst_vis.utils.files import write_json_atomically
from queryinst_vis.video.writer import VideoWriter
from tests.closeness import assert_equal_detections, assert_equal_to_rounding
from tests.tiny import (
    HEIGHT,
    WIDTH,
    distinct_model,
    draw_frame,
    oracle_detect,
    rectangles,
    tiny_config,
    write_images,
    write_videos,
)

WRITERS = {"image": write_images, "video": write_videos}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return distinct_model(tiny_config())


@pytest.fixture
def oracle(monkeypatch):
    monkeypatch.setattr(detector, "detect", oracle_detect)


def test_detections_are_in_pixels_of_each_frame(model):
    frames = [draw_frame(0), np.kron(draw_frame(0), np.ones((2, 2, 1), dtype=np.uint8))]
    config = tiny_config()
    (small,), (large,) = (Detector(model, config).detect_frames([frame]) for frame in frames)
    assert (small.image_size, large.image_size) == ((HEIGHT, WIDTH), (2 * HEIGHT, 2 * WIDTH))
    assert len(small) == 5 and small.masks().shape == (5, HEIGHT, WIDTH)
    assert torch.allclose(2 * small.boxes, large.boxes, atol=1e-2)


def test_a_batch_of_frames_equals_single_frames(model):
    config = tiny_config()
    frames = [draw_frame(0), draw_frame(3)[:40], draw_frame(2)[:, :70]]
    for batched, frame in zip(Detector(model, config).detect_frames(frames), frames, strict=True):
        (single,) = Detector(model, config).detect_frames([frame])
        assert batched.image_size == frame.shape[:2]
        assert torch.equal(batched.labels, single.labels)
        if frame.shape[:2] == (HEIGHT, WIDTH):
            assert_equal_to_rounding(batched.boxes, single.boxes)
            assert_equal_to_rounding(batched.embeddings, single.embeddings)


def test_inference_settings_are_obeyed(model):
    config = tiny_config()
    config.inference.max_per_image = 2
    config.inference.mask_threshold = 0.7
    (two,) = Detector(model, config).detect_frames([draw_frame(0)])
    assert len(two) == 2 and two.mask_threshold == 0.7
    config.inference.score_threshold = 0.99
    (none,) = Detector(model, config).detect_frames([draw_frame(0)])
    assert len(none) == 0 and none.masks().shape == (0, HEIGHT, WIDTH)


def test_without_embeddings_the_track_head_does_not_run(model, monkeypatch):
    monkeypatch.setattr(model.track_head, "forward", None)  # must not be reached
    (found,) = Detector(model, tiny_config()).detect_frames([draw_frame(0)], embedding=None)
    assert len(found) > 0 and found.embeddings is None


def test_tracker_keeps_identities_until_reset(model, oracle):
    tracker = VideoTracker(Detector(model, tiny_config()))
    assert tracker.class_names == ["box", "crate"]
    for index in range(3):
        found = tracker.update(draw_frame(index))
        assert found.track_ids.tolist() == [0, 1]
        assert found.boxes.tolist() == [list(map(float, box)) for box in rectangles(index)]
    tracker.reset()
    assert tracker.update(draw_frame(0)).track_ids.tolist() == [0, 1]


def test_tracker_returns_cpu_tensors_without_gradients(model):
    found = VideoTracker(Detector(model, tiny_config())).update(draw_frame(0))
    assert len(found) > 0
    for tensor in (found.boxes, found.scores, found.mask_logits, found.track_ids):
        assert tensor.device.type == "cpu" and not tensor.requires_grad


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((HEIGHT, WIDTH, 3), dtype=np.float32),
        np.zeros((HEIGHT, WIDTH), dtype=np.uint8),
        np.zeros((3, HEIGHT, WIDTH), dtype=np.uint8),
        np.zeros((0, WIDTH, 3), dtype=np.uint8),
        [[0, 0, 0]],
    ],
    ids=["float", "grey", "channels first", "empty", "list"],
)
def test_invalid_frames_are_refused(model, frame):
    with pytest.raises(InputError, match=r"(a frame|an image) must be .* not "):
        VideoTracker(Detector(model, tiny_config())).update(frame)


def test_the_quick_start_tracks_a_video(tmp_path, model, oracle):
    save_weights(tmp_path / "model.safetensors", model, tiny_config(), half=True)
    with VideoWriter(tmp_path / "video.mp4", fps=5, crf=1) as writer:
        for index in range(5):
            writer.write(draw_frame(index))

    tracker = VideoTracker.from_pretrained(tmp_path / "model.safetensors", device="cpu")
    seen = list(tracker.stream(tmp_path / "video.mp4", stride=2))
    assert len(seen) == 3
    for frame, detections in seen:
        assert frame.shape == (HEIGHT, WIDTH, 3) and frame.dtype == np.uint8
        assert detections.image_size == (HEIGHT, WIDTH)


@pytest.mark.parametrize("live", [False, True])
def test_streams_provide_frame_times(tmp_path, model, oracle, live):
    with VideoWriter(tmp_path / "video.mp4", fps=20, crf=1) as writer:
        for index in range(4):
            writer.write(draw_frame(index))
    config = tiny_config()
    config.tracking.expire_seconds = 60.0
    tracker = VideoTracker(Detector(model, config))
    assert len(list(tracker.stream(tmp_path / "video.mp4", live=live))) > 1
    with pytest.raises(InputError, match="expire_seconds"):
        VideoTracker(Detector(model, config)).update(draw_frame(0))


def test_an_object_absent_longer_than_the_expiry_gets_a_new_identity(model, oracle):
    config = tiny_config()
    config.tracking.expire_seconds = 3.0
    tracker = VideoTracker(Detector(model, config))
    ids = [tracker.update(draw_frame(0), time).track_ids.tolist() for time in (10.0, 12.5, 15.5)]
    assert ids == [[0, 1], [0, 1], [2, 3]]
    with pytest.raises(InputError, match="later than"):
        tracker.update(draw_frame(0), 15.0)


@pytest.fixture
def weights(tmp_path, model):
    path = tmp_path / "model.safetensors"
    save_weights(path, model, tiny_config())
    return path


def test_tracking_works_in_inference_mode(weights):
    with torch.inference_mode():
        tracker = VideoTracker.from_pretrained(weights, device="cpu")
        assert len(tracker.update(draw_frame(0))) > 0


def test_bf16_detections_are_close_to_float32(weights):
    exact = VideoTracker.from_pretrained(weights, device="cpu").update(draw_frame(0))
    faster = VideoTracker.from_pretrained(
        weights, device="cpu", overrides=["inference.precision=bf16-mixed"]
    ).update(draw_frame(0))
    assert faster.boxes.dtype == faster.mask_logits.dtype == torch.float32
    assert len(faster) == len(exact)
    torch.testing.assert_close(faster.scores, exact.scores, rtol=0, atol=0.1)
    assert not torch.equal(faster.scores, exact.scores)


def test_an_unknown_precision_is_refused(weights):
    with pytest.raises(InputError, match=r"precision 'fp8': .*32-true"):
        VideoTracker.from_pretrained(weights, overrides=["inference.precision=fp8"])


def test_compilation_without_a_compiler_is_refused(weights, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="'no-such-compiler'"):
        VideoTracker.from_pretrained(weights, device="cpu", overrides=["inference.compile=true"])


@pytest.mark.slow  # compilation is slow
def test_a_compiled_backbone_gives_the_same_detections(weights):
    exact = VideoTracker.from_pretrained(weights, device="cpu").update(draw_frame(0))
    compiled = VideoTracker.from_pretrained(
        weights, device="cpu", overrides=["inference.compile=true"]
    ).update(draw_frame(0))
    assert_equal_to_rounding(compiled.boxes, exact.boxes)
    assert_equal_to_rounding(compiled.scores, exact.scores)


@pytest.mark.parametrize("batch", [2, 3, 10])
def test_batched_frames_give_the_same_tracks(model, batch):
    frames = [draw_frame(index) for index in range(7)]
    tracker = VideoTracker(Detector(model, tiny_config()))
    alone = [tracker.update(frame) for frame in frames]
    tracker.reset()
    together = list(tracker.follow(iter(frames), batch))
    assert min(map(len, alone)) > 0
    for given, (frame, found), expected in zip(frames, together, alone, strict=True):
        assert frame is given
        assert_equal_detections(found, expected)


def test_a_batch_of_no_frames_is_refused(model):
    with pytest.raises(InputError, match=r"batch .* got 0"):
        VideoTracker(Detector(model, tiny_config())).follow([], batch=0)


def test_stream_opens_the_video_immediately(model):
    with pytest.raises(InputError, match="no such file"):
        VideoTracker(Detector(model, tiny_config())).stream("absent.mp4")


@pytest.mark.parametrize(
    ("max_size", "seen"), [(None, WIDTH), (48, 48), (WIDTH, WIDTH), (10 * WIDTH, WIDTH)]
)
@pytest.mark.parametrize("upright", [False, True])
def test_max_size_bounds_the_network_input_and_never_enlarges(
    weights, monkeypatch, max_size, seen, upright
):
    sizes = []

    def look(model, images, image_sizes, *rest, **settings):
        sizes.extend(image_sizes)
        return detect(model, images, image_sizes, *rest, **settings)

    detect = detector.detect
    monkeypatch.setattr(detector, "detect", look)
    frame = np.rot90(draw_frame(0)).copy() if upright else draw_frame(0)
    found = VideoTracker.from_pretrained(weights, "cpu", max_size=max_size).update(frame)
    assert [max(size) for size in sizes] == [seen]
    assert found.image_size == frame.shape[:2]


def test_a_max_size_of_zero_is_refused(weights):
    with pytest.raises(InputError, match=r"max_size .* got 0"):
        VideoTracker.from_pretrained(weights, "cpu", max_size=0)


def test_perfect_tracks_score_one(tmp_path, weights, oracle):
    config = tiny_config(val=write_videos(tmp_path / "videos"))
    config.model.classes = []  # the checkpoint's
    out, archive = tmp_path / "results.json", tmp_path / "results.zip"
    metrics = evaluation.test_video(config, weights, out, archive, devices=1)
    assert metrics["per_class_AP"] == {"box": 1.0, "crate": 1.0}  # the model's classes
    assert metrics["AP"] == 1.0

    entries = json.loads(out.read_text())
    found = {(entry["video_id"], entry["category_id"]) for entry in entries}
    assert found == {(50, 7), (50, 9), (49, 7), (49, 9)}, "ids of the file, matched by class name"
    for entry in entries:
        x0, y0, x1, y1 = rectangles(2)[[7, 9].index(entry["category_id"])]
        mask = decode_rle(entry["segmentations"][2])
        assert mask[y0:y1, x0:x1].all() and mask.sum() == (x1 - x0) * (y1 - y0)
    with zipfile.ZipFile(archive) as content:
        assert json.loads(content.read("results.json")) == entries


def test_perfect_detections_score_one(tmp_path, weights, oracle):
    config = tiny_config()
    config.data.test = write_images(tmp_path / "images")
    config.data.val = DatasetConfig("not looked at", "neither")
    metrics = evaluation.test_image(config, weights, tmp_path / "results.json", devices=1)
    assert metrics["bbox"]["AP"] == metrics["segm"]["AP"] == 1.0
    entries = json.loads((tmp_path / "results.json").read_text())
    assert {entry["image_id"] for entry in entries} == {17, 18, 19, 20}
    first = [entry for entry in entries if entry["image_id"] == 20]
    assert [(entry["category_id"], entry["bbox"]) for entry in first] == [
        (7, [8, 8, 24, 20]),
        (9, [60, 34, 24, 24]),
    ]


def test_the_network_writes_result_files(tmp_path, weights):
    config = tiny_config(val=write_videos(tmp_path / "videos"))
    metrics = evaluation.test_video(config, weights, tmp_path / "results.json", devices=1)
    entries = json.loads((tmp_path / "results.json").read_text())
    assert 0 <= metrics["AP"] < 1
    assert entries and all(len(entry["segmentations"]) == 4 for entry in entries)
    assert all(0 < entry["score"] < 1 for entry in entries)


@pytest.mark.parametrize("kind", ["image", "video"])
def test_result_files_do_not_depend_on_the_batch_size(tmp_path, weights, kind):
    config = tiny_config(val=WRITERS[kind](tmp_path / "set"))
    run = getattr(evaluation, f"test_{kind}")
    run(config, weights, tmp_path / "ones.json", devices=1)
    run(config, weights, tmp_path / "threes.json", devices=1, batch=3)
    ones, threes = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("ones", "threes")
    )
    assert len(ones) == len(threes) > 0
    for one, other in zip(ones, threes, strict=True):
        assert other.keys() == one.keys()
        assert other["score"] == pytest.approx(one["score"], abs=1e-4)
        for key in ("category_id", f"{kind}_id"):
            assert other[key] == one[key]


@pytest.mark.parametrize("kind", ["image", "video"])
def test_a_batch_size_of_0_is_refused(tmp_path, weights, kind):
    config = tiny_config(val=WRITERS[kind](tmp_path / "set"))
    with pytest.raises(InputError, match=r"batch .* got 0"):
        getattr(evaluation, f"test_{kind}")(config, weights, tmp_path / "results.json", batch=0)


def test_a_set_without_annotations_gets_results_but_no_score(tmp_path, weights, oracle):
    data = write_videos(tmp_path / "videos")
    content = json.loads((tmp_path / "videos" / "videos.json").read_text())
    del content["annotations"]
    write_json_atomically(data.annotations, content)
    config = tiny_config(val=data)
    assert evaluation.test_video(config, weights, tmp_path / "results.json", devices=1) is None
    assert len(json.loads((tmp_path / "results.json").read_text())) == 4


def test_no_detections_give_an_empty_list_that_scores_0(tmp_path, weights):
    config = tiny_config(val=write_images(tmp_path / "images"))
    config.inference.score_threshold = 1.0
    metrics = evaluation.test_image(config, weights, tmp_path / "results.json", devices=1)
    assert metrics is not None
    assert metrics["bbox"]["AP"] == metrics["segm"]["AP"] == 0
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_results_and_their_zip_appear_together_or_not_at_all(tmp_path, weights, monkeypatch):
    config = tiny_config(val=write_videos(tmp_path / "videos"))
    (tmp_path / "out").mkdir()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", fail)
    out, archive = tmp_path / "out" / "results.json", tmp_path / "out" / "results.zip"
    with pytest.raises(InputError, match=r"cannot write .*results\.zip: No space left"):
        evaluation.test_video(config, weights, out, archive, devices=1)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_image_set_is_refused_by_test_video(tmp_path, weights):
    config = tiny_config(val=write_images(tmp_path / "images"))
    with pytest.raises(InputError, match="test-image"):
        evaluation.test_video(config, weights, tmp_path / "results.json", devices=1)


def test_a_missing_test_set_is_refused(tmp_path, weights):
    with pytest.raises(InputError, match=r"data\.test\.annotations: not set"):
        evaluation.test_video(tiny_config(), weights, tmp_path / "results.json", devices=1)


def test_output_paths_are_checked_before_inference(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(evaluation, "predict_videos", None)  # must not be reached
    config = tiny_config(val=write_videos(tmp_path / "videos"))
    with pytest.raises(InputError, match="cannot write"):
        evaluation.test_video(config, weights, tmp_path, devices=1)


def test_an_unreadable_frame_leaves_no_result_file(tmp_path, weights):
    config = tiny_config(val=write_videos(tmp_path / "videos"))
    (tmp_path / "videos" / "1" / "2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"2\.png: not a readable image"):
        evaluation.test_video(config, weights, tmp_path / "results.json", devices=1)
    assert not (tmp_path / "results.json").exists()
