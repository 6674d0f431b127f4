"""Stand-ins for the few classes of mmdet and mmengine that our plug-in uses.

They do what those classes do for a model: registering and building by name, choosing a method
by ``mode``, and carrying samples. The tests of the plug-in run on them, and on the real ones too
where mmdet is installed.
"""

import sys
from types import ModuleType, SimpleNamespace

import torch
from torch import nn


class Registry:
    """``mmdet.registry.MODELS``."""

    def __init__(self):
        self.classes = {}

    def register_module(self):
        return lambda cls: self.classes.setdefault(cls.__name__, cls)

    def build(self, config):
        config = dict(config)
        return self.classes[config.pop("type")](**config)


class BaseModel(nn.Module):
    """``mmengine.model.BaseModel``, of which both of mmdet's bases are made."""

    def __init__(self, data_preprocessor=None, init_cfg=None):
        super().__init__()
        self.preprocessor_config = data_preprocessor

    def forward(self, inputs, data_samples=None, mode="tensor"):
        method = {"loss": "loss", "predict": "predict", "tensor": "_forward"}[mode]
        return getattr(self, method)(inputs, data_samples)

    def parse_losses(self, losses):
        total = sum(loss.mean() for name, loss in losses.items() if "loss" in name)
        return total, {"loss": total, **losses}


class BaseDetector(BaseModel):
    """``mmdet.models.detectors.base.BaseDetector``."""

    def add_pred_to_datasample(self, data_samples, results_list):
        for sample, result in zip(data_samples, results_list, strict=True):
            sample.pred_instances = result
        return data_samples


class BaseTracker:
    """``mmdet.models.trackers.base_tracker.BaseTracker``."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.tracks = {}


class DetDataSample(SimpleNamespace):
    """``mmdet.structures.DetDataSample``."""


class TrackDataSample:
    """``mmdet.structures.TrackDataSample``: the frames of one video, or a pair of them."""

    def __init__(self, metainfo):
        self.key_frames_inds = metainfo["key_frames_inds"]
        self.ref_frames_inds = metainfo["ref_frames_inds"]

    def __len__(self):
        return len(self.video_data_samples)

    def __getitem__(self, index):
        return self.video_data_samples[index]

    def get_key_frames(self):
        return [self[index] for index in self.key_frames_inds]

    def get_ref_frames(self):
        return [self[index] for index in self.ref_frames_inds]


class BitmapMasks:
    """``mmdet.structures.mask.BitmapMasks``."""

    def __init__(self, masks, height, width):
        self.masks = masks

    def to_tensor(self, dtype, device):
        return torch.tensor(self.masks, dtype=dtype, device=device)


def install(monkeypatch):
    """Let ``import mmdet`` and ``import mmengine`` find the stand-ins; returns the registry."""
    registry = Registry()
    contents = {
        "mmdet": {},
        "mmdet.models": {},
        "mmdet.models.detectors": {},
        "mmdet.models.detectors.base": {"BaseDetector": BaseDetector},
        "mmdet.models.mot": {},
        "mmdet.models.mot.base": {"BaseMOTModel": BaseModel},
        "mmdet.models.trackers": {},
        "mmdet.models.trackers.base_tracker": {"BaseTracker": BaseTracker},
        "mmdet.registry": {"MODELS": registry},
        "mmdet.structures": {"DetDataSample": DetDataSample, "TrackDataSample": TrackDataSample},
        "mmengine": {},
        "mmengine.structures": {"InstanceData": SimpleNamespace},
    }
    for name, members in contents.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return registry
