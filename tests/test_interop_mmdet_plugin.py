"""Our model inside mmdetection: data conversion, and the real mmdet where installed."""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.config import config_to_dict
from queryinst_vis.errors import InputError
from queryinst_vis.interop.mmdet_samples import (
    input_sizes,
    instance_fields,
    loss_name,
    output_sizes,
    target_of,
)
from queryinst_vis.models.build import build_model
from queryinst_vis.models.postprocess import detect
from queryinst_vis.structures import Detections
from tests import mmdet_standin
from tests.tiny import tiny_config

CPU = torch.device("cpu")
PLUGIN = "queryinst_vis.interop.mmdet_plugin"


def sample(masks=True, ids=None):
    """Two instances on a 30x40 input of a 60x80 file."""
    gt = SimpleNamespace(
        bboxes=torch.tensor([[0.0, 0, 10, 10], [5, 5, 20, 25]]), labels=torch.tensor([1, 0])
    )
    if masks:
        pixels = np.eye(2, 32 * 64, dtype=np.uint8).reshape(2, 32, 64)
        gt.masks = mmdet_standin.BitmapMasks(pixels, 32, 64)
    if ids is not None:
        gt.instances_ids = torch.tensor(ids)
    metainfo = {"img_shape": (30, 40), "ori_shape": (60, 80, 3)}
    return SimpleNamespace(metainfo=metainfo, gt_instances=gt)


def test_a_data_sample_is_converted_to_a_target():
    target = target_of(sample(ids=[7, 3]), CPU)
    assert target.boxes.tolist() == [[0, 0, 10, 10], [5, 5, 20, 25]]
    assert target.labels.tolist() == [1, 0] and target.instance_ids.tolist() == [7, 3]
    assert target.masks.shape == (2, 32, 64) and target.masks.dtype == torch.bool
    assert target.masks[1].nonzero().tolist() == [[0, 1]]
    assert target.image_size == (30, 40)


def test_instances_of_single_images_are_numbered():
    assert target_of(sample(), CPU).instance_ids.tolist() == [0, 1]


def test_a_sample_without_masks_is_refused():
    with pytest.raises(InputError, match="no masks"):
        target_of(sample(masks=False), CPU)


def test_crowds_become_ignore_regions_on_request():
    crowded = sample()
    assert target_of(crowded, CPU, ignore=True).ignore is None
    pixels = np.zeros((2, 30, 40), np.uint8)
    pixels[0, :5, :5] = pixels[1, 3:9, 3:9] = 1
    crowded.ignored_instances = SimpleNamespace(masks=mmdet_standin.BitmapMasks(pixels, 30, 40))
    assert target_of(crowded, CPU).ignore is None
    ignore = target_of(crowded, CPU, ignore=True).ignore
    assert ignore.shape == (30, 40) and ignore.sum() == 25 + 36 - 4
    crowded.ignored_instances.masks.masks = pixels[:0]
    assert target_of(crowded, CPU, ignore=True).ignore is None


def test_results_are_in_file_or_input_coordinates():
    assert input_sizes([sample()]) == [(30, 40)]
    assert output_sizes([sample()], rescale=True) == [(60, 80)]
    assert output_sizes([sample()], rescale=False) == [(30, 40)]


def test_detections_are_converted_to_instance_data():
    detections = Detections(
        torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([0.5]), torch.tensor([2]), (16, 24),
        mask_logits=torch.full((1, 28, 28), 9.0),
    )  # fmt: skip
    fields = instance_fields(detections)
    assert set(fields) == {"bboxes", "scores", "labels", "masks"}
    assert fields["masks"].shape == (1, 16, 24) and fields["masks"].sum() == 64
    detections.track_ids = torch.tensor([4])
    assert instance_fields(detections)["instances_id"].tolist() == [4]


def test_mmengine_sums_all_losses():
    assert loss_name("s0.cls") == "s0.loss_cls" and loss_name("track") == "loss_track"


@pytest.mark.skipif(find_spec("mmdet") is not None, reason="mmdet is installed")
def test_without_mmdet_the_plugin_names_the_missing_package():
    with pytest.raises(InputError, match=r"not installed .*docs/dependencies\.md"):
        import_module(PLUGIN)


# The plug-in, on stand-ins and on the real thing


@pytest.fixture(params=["stand-ins", "mmdet"])
def mmdet(request, monkeypatch, tmp_path):
    """mmdet's classes, and ``build``, which makes a model of an mmdet config's ``model``."""
    if request.param == "mmdet":
        yield real_mmdet(tmp_path)
        return
    monkeypatch.delitem(sys.modules, PLUGIN, raising=False)
    registry = mmdet_standin.install(monkeypatch)
    import_module(PLUGIN)
    yield SimpleNamespace(
        build=registry.build,
        DetDataSample=mmdet_standin.DetDataSample,
        TrackDataSample=mmdet_standin.TrackDataSample,
        BitmapMasks=mmdet_standin.BitmapMasks,
        InstanceData=SimpleNamespace,
    )
    del sys.modules[PLUGIN]


def real_mmdet(tmp_path):
    pytest.importorskip("mmdet", reason="needs mmdet, see docs/dependencies.md")
    models = import_module("mmdet.registry").MODELS
    configs = import_module("mmengine.config").Config

    def build(model):
        """From a config file, which imports the plug-in by name."""
        path = tmp_path / "mmdet_config.py"
        path.write_text(f"custom_imports = {{'imports': [{PLUGIN!r}]}}\nmodel = {model!r}\n")
        return models.build(configs.fromfile(path).model)

    structures = import_module("mmdet.structures")
    return SimpleNamespace(
        build=build,
        DetDataSample=structures.DetDataSample,
        TrackDataSample=structures.TrackDataSample,
        BitmapMasks=import_module("mmdet.structures.mask").BitmapMasks,
        InstanceData=import_module("mmengine.structures").InstanceData,
    )


@pytest.fixture
def config_file(tmp_path):
    """The config of a tiny video model."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config_to_dict(tiny_config())))
    return str(path)


def frame(mmdet, index):
    """mmdet's sample of a 64x96 frame with two instances."""
    meta = {"img_shape": (64, 96), "ori_shape": (128, 192), "scale_factor": (0.5, 0.5)}
    made = mmdet.DetDataSample(metainfo={**meta, "frame_id": index})
    masks = np.zeros((2, 64, 96), dtype=np.uint8)
    masks[0, 8:28, 8:32] = masks[1, 34:58, 60:84] = 1
    made.gt_instances = mmdet.InstanceData(
        bboxes=torch.tensor([[8.0, 8, 32, 28], [60, 34, 84, 58]]),
        labels=torch.tensor([0, 1]),
        masks=mmdet.BitmapMasks(masks, 64, 96),
        instances_ids=torch.tensor([5, 9]),
    )
    return made


def test_an_mmdet_config_names_our_detector(mmdet, config_file):
    model = mmdet.build({"type": "QueryInstVisDetector", "config": config_file}).train()
    images, samples = torch.rand(2, 3, 64, 96), [frame(mmdet, 0), frame(mmdet, 1)]
    loss, logs = model.parse_losses(model(images, samples, mode="loss"))
    assert {"s0.loss_cls", "s1.loss_dice"} <= set(logs) and loss.isfinite()
    loss.backward()
    assert model.network.queries.grad.abs().sum() > 0
    model.eval()
    with torch.no_grad():
        first, _ = model(images, samples, mode="predict")
        logits, boxes = model(images, samples, mode="tensor")
        alone, whole = model(images), model(images, samples)
    assert first.pred_instances.masks.shape == (len(first.pred_instances.scores), 128, 192)
    assert logits.shape == (2, 5, 2) and boxes.shape == (2, 5, 4)
    assert torch.equal(alone[0], whole[0])  # without samples the whole input counts
    assert len(model.extract_feat(images)) == 4


def test_the_detector_equals_standalone_inference(mmdet, config_file):
    torch.manual_seed(0)
    model = mmdet.build({"type": "QueryInstVisDetector", "config": config_file}).eval()
    image = torch.rand(1, 3, 64, 96)
    expected = detect(
        model.network, image, [(64, 96)], [(64, 96)],
        score_threshold=0.0, max_per_image=5, one_label_per_query=True,
    )[0]  # fmt: skip
    (found,) = model.predict(image, [frame(mmdet, 0)], rescale=False)
    assert torch.equal(found.pred_instances.bboxes, expected.boxes)
    assert torch.equal(found.pred_instances.scores, expected.scores)
    assert torch.equal(found.pred_instances.masks, expected.masks())


def video_model(mmdet, config_file, **tracker):
    return mmdet.build(
        {
            "type": "QueryInstVisModel",
            "detector": {"type": "QueryInstVisDetector", "config": config_file},
            "tracker": {"type": "QueryInstVisTracker", **tracker},
        }
    )


def video(mmdet):
    made = mmdet.TrackDataSample(metainfo={"key_frames_inds": [0], "ref_frames_inds": [1]})
    made.video_data_samples = [frame(mmdet, 0), frame(mmdet, 1)]
    return made


def test_an_mmdet_config_names_our_tracker(mmdet, config_file):
    torch.manual_seed(0)
    model = video_model(mmdet, config_file, rule="masktrack").train()
    images = torch.rand(1, 1, 3, 64, 96).repeat(1, 2, 1, 1, 1)  # two equal frames
    loss, logs = model.parse_losses(model(images, [video(mmdet)], mode="loss"))
    assert "loss_track" in logs and "s1.loss_dice" in logs and loss.isfinite()
    model.eval()
    (tracked,) = model(images, [video(mmdet)], mode="predict")
    ids = [tracked[index].pred_track_instances.instances_id.tolist() for index in range(2)]
    assert sorted(ids[0]) == list(range(5))  # five queries, five new instances
    assert tracked[0].pred_track_instances.masks.shape == (5, 128, 192)
    assert len(set(ids[1])) == len(ids[1]) > 0
    again = model(images, [video(mmdet)], mode="predict")[0]  # ids restart at 0 for a new video
    assert again[0].pred_track_instances.instances_id.tolist() == ids[0]
    assert again[1].pred_track_instances.instances_id.tolist() == ids[1]


def test_several_videos_at_once_are_refused(mmdet, config_file):
    model = video_model(mmdet, config_file).eval()
    with pytest.raises(InputError, match=r"one video .*2"):
        model(torch.rand(2, 2, 3, 64, 96), [video(mmdet), video(mmdet)], mode="predict")


def test_a_rule_that_needs_a_track_head_is_refused_without_one(mmdet, config_file):
    detector = {
        "type": "QueryInstVisDetector",
        "config": config_file,
        "overrides": ["model.track.enabled=false"],
    }
    config = {"type": "QueryInstVisModel", "detector": detector}
    with pytest.raises(InputError, match="no track head"):
        mmdet.build({**config, "tracker": {"type": "QueryInstVisTracker"}})
    for rule in ("query", "bytetrack"):
        tracker = {"type": "QueryInstVisTracker", "rule": rule}
        model = mmdet.build({**config, "tracker": tracker})
        tracked = model.eval()(torch.rand(1, 2, 3, 64, 96), [video(mmdet)], mode="predict")[0]
    assert len(tracked[0].pred_track_instances.instances_id) == 5


def test_inference_weights_run_in_mmdetection_but_cannot_be_trained(mmdet, tmp_path):
    config, path = tiny_config(), tmp_path / "tiny.safetensors"
    save_weights(path, build_model(config), config)
    model = mmdet.build({"type": "QueryInstVisDetector", "weights": str(path)})
    (found,) = model.eval()(torch.rand(1, 3, 64, 96), [frame(mmdet, 0)], mode="predict")
    assert len(found.pred_instances.scores) == 5
    with pytest.raises(InputError, match="give a config instead"):
        model(torch.rand(1, 3, 64, 96), [frame(mmdet, 0)], mode="loss")
    with pytest.raises(InputError, match="give either a config"):
        mmdet.build({"type": "QueryInstVisDetector"})
