"""Our model inside mmdetection: what passes between them, and, where installed, the real thing."""

from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from queryinst_vis.config import config_to_dict
from queryinst_vis.errors import InputError
from queryinst_vis.interop.mmdet_samples import (
    input_sizes,
    instance_fields,
    loss_name,
    output_sizes,
    target_of,
)
from queryinst_vis.structures import Detections
from tests.tiny import tiny_config

CPU = torch.device("cpu")


class BitmapMasks:
    """mmdet's class, as far as it is used."""

    def __init__(self, masks):
        self.masks = masks

    def to_tensor(self, dtype, device):
        return torch.from_numpy(self.masks).to(device, dtype)


def sample(masks=True, ids=None):
    """Two instances on a 30x40 input of a 60x80 file."""
    truth = SimpleNamespace(
        bboxes=torch.tensor([[0.0, 0, 10, 10], [5, 5, 20, 25]]), labels=torch.tensor([1, 0])
    )
    if masks:
        truth.masks = BitmapMasks(np.eye(2, 32 * 64, dtype=np.uint8).reshape(2, 32, 64))
    if ids is not None:
        truth.instances_ids = torch.tensor(ids)
    metainfo = {"img_shape": (30, 40), "ori_shape": (60, 80, 3)}
    return SimpleNamespace(metainfo=metainfo, gt_instances=truth)


def test_a_sample_becomes_a_target():
    target = target_of(sample(ids=[7, 3]), CPU)
    assert target.boxes.tolist() == [[0, 0, 10, 10], [5, 5, 20, 25]]
    assert target.labels.tolist() == [1, 0] and target.instance_ids.tolist() == [7, 3]
    assert target.masks.shape == (2, 32, 64) and target.masks.dtype == torch.bool
    assert target.masks[1].nonzero().tolist() == [[0, 1]]
    assert target.image_size == (30, 40)


def test_instances_of_single_images_are_numbered():
    assert target_of(sample(), CPU).instance_ids.tolist() == [0, 1]


def test_a_sample_without_masks_is_refused():
    with pytest.raises(InputError, match="no masks: load them with"):
        target_of(sample(masks=False), CPU)


def test_results_refer_to_the_file_or_to_the_input():
    assert input_sizes([sample()]) == [(30, 40)]
    assert output_sizes([sample()], rescale=True) == [(60, 80)]
    assert output_sizes([sample()], rescale=False) == [(30, 40)]


def test_detections_become_instances():
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
def test_without_mmdet_the_plugin_says_what_is_missing():
    with pytest.raises(InputError, match=r"not installed .*docs/dependencies\.md"):
        import queryinst_vis.interop.mmdet_plugin  # noqa: F401


# The real thing


@pytest.fixture
def mmdet():
    pytest.importorskip("mmdet", reason="needs mmdet, see docs/dependencies.md")
    structures = pytest.importorskip("mmdet.structures")
    return SimpleNamespace(
        registry=pytest.importorskip("mmdet.registry"),
        DetDataSample=structures.DetDataSample,
        TrackDataSample=structures.TrackDataSample,
        BitmapMasks=pytest.importorskip("mmdet.structures.mask").BitmapMasks,
        InstanceData=pytest.importorskip("mmengine.structures").InstanceData,
        Config=pytest.importorskip("mmengine.config").Config,
    )


@pytest.fixture
def config_file(tmp_path):
    """A tiny video model of ours, as YAML (which JSON is)."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config_to_dict(tiny_config())))
    return path


def build(mmdet, tmp_path, model):
    """A model from a config file of mmdet, which imports the plug-in by name."""
    path = tmp_path / "mmdet_config.py"
    imports = {"imports": ["queryinst_vis.interop.mmdet_plugin"]}
    path.write_text(f"custom_imports = {imports!r}\nmodel = {model!r}\n")
    return mmdet.registry.MODELS.build(mmdet.Config.fromfile(path).model)


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


def test_an_mmdet_config_names_our_detector(mmdet, tmp_path, config_file):
    model = build(
        mmdet, tmp_path, {"type": "QueryInstVisDetector", "config": str(config_file)}
    ).train()
    images, samples = torch.rand(2, 3, 64, 96), [frame(mmdet, 0), frame(mmdet, 1)]
    loss, logs = model.parse_losses(model(images, samples, mode="loss"))
    assert {"s0.loss_cls", "s1.loss_dice"} <= set(logs) and loss.isfinite()
    loss.backward()
    model.eval()
    with torch.no_grad():
        (first, _) = model(images, samples, mode="predict")
        logits, boxes = model(images, samples, mode="tensor")
    assert first.pred_instances.masks.shape[1:] == (128, 192)
    assert logits.shape == (2, 5, 2) and boxes.shape == (2, 5, 4)


def test_an_mmdet_config_names_our_tracker(mmdet, tmp_path, config_file):
    model = build(
        mmdet,
        tmp_path,
        {
            "type": "QueryInstVisModel",
            "detector": {"type": "QueryInstVisDetector", "config": str(config_file)},
            "tracker": {"type": "QueryInstVisTracker", "rule": "masktrack"},
        },
    ).train()
    video = mmdet.TrackDataSample(metainfo={"key_frames_inds": [0], "ref_frames_inds": [1]})
    video.video_data_samples = [frame(mmdet, 0), frame(mmdet, 1)]
    images = torch.rand(1, 2, 3, 64, 96)
    loss, logs = model.parse_losses(model(images, [video], mode="loss"))
    assert "loss_track" in logs and loss.isfinite()
    model.eval()
    (tracked,) = model(images, [video], mode="predict")
    for index in range(2):
        found = tracked[index].pred_track_instances
        ids = found.instances_id.tolist()
        assert len(ids) > 0 and len(set(ids)) == len(ids)
        assert found.masks.shape == (len(ids), 128, 192)
