"""Every config: it loads, builds with its exact number of parameters, and trains a step.

The counts are derived from those of published models (mmdetection's R50 with 100 queries and R101
with 300, the backbones of timm and torchvision) and the widths of the paper's layers.
"""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from tiny import write_images, write_videos

from queryinst_vis.config import Config, config_from_dict, load_config
from queryinst_vis.data.input_checks import check_input
from queryinst_vis.data.loader import train_loader
from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.models.build import build_model
from queryinst_vis.training.recipe import check_recipe
from queryinst_vis.training.schedule import build_optimizer, set_learning_rate
from queryinst_vis.training.step import TrainingStep
from queryinst_vis.utils.files import read_json, write_json_atomically

CONFIGS = Path(__file__).resolve().parent.parent / "configs"

R50_100 = 172_688_808  # as mmdetection counts it
R101_300 = 191_732_936  # likewise


def norm(channels: int) -> int:
    return 2 * channels


def linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def track_head(channels: int, hidden: int, embedding: int) -> int:
    return linear(49 * channels, hidden) + linear(hidden, embedding)


@dataclass(frozen=True)
class Head:
    """Numbers of parameters of the parts of a head, by its widths."""

    channels: int
    ffn: int
    hidden: int  # of dynamic convolutions
    stages: int
    mask_convs: int
    classes: int

    @property
    def query(self) -> int:
        """A query and its box."""
        return self.channels + 4

    @property
    def class_rows(self) -> int:
        """A row of each class predictor and of each mask predictor."""
        return self.stages * 2 * (self.channels + 1)

    @property
    def dynamic_conv(self) -> int:
        kernels = linear(self.channels, 2 * self.channels * self.hidden)
        return kernels + norm(self.hidden) + norm(self.channels)

    @property
    def attention(self) -> int:
        return 4 * linear(self.channels, self.channels) + norm(self.channels)

    @property
    def update(self) -> int:
        """The feed-forward network with both norms."""
        up, down = linear(self.channels, self.ffn), linear(self.ffn, self.channels)
        return up + down + 2 * norm(self.channels)

    @property
    def mask_head(self) -> int:
        conv = 9 * self.channels**2 + norm(self.channels)
        upsample = 4 * self.channels**2 + self.channels
        predictor = linear(self.channels, self.classes)
        return self.dynamic_conv + self.mask_convs * conv + upsample + predictor

    @property
    def box_stage(self) -> int:
        projection = linear(49 * self.channels, self.channels) + norm(self.channels)
        branches = 4 * (self.channels**2 + norm(self.channels))  # class: one layer, box: three
        predictors = linear(self.channels, self.classes + 4)
        core = self.attention + self.dynamic_conv + self.update
        return core + projection + branches + predictors


PAPER = Head(channels=256, ffn=2048, hidden=64, stages=6, mask_convs=4, classes=80)
# a 1x1 convolution from each mask head to the next
FLOW = (PAPER.stages - 1) * (PAPER.channels**2 + norm(PAPER.channels))
OWN_QUERIES = 100 * PAPER.channels + (PAPER.stages - 1) * PAPER.update
OWN_ATTENTION = PAPER.stages * PAPER.attention
R50_300 = R50_100 + 200 * PAPER.query
VANILLA = R50_100 - PAPER.stages * PAPER.dynamic_conv
VIS = R50_100 - 90 * PAPER.query - 40 * PAPER.class_rows + track_head(256, 1024, 1024)

# Backbones as published, without classifier: ImageNet models have 1000 classes
R50 = 25_557_032 - linear(2048, 1000)
X101 = 83_455_272 - linear(2048, 1000)
LITE0 = 4_652_008 - linear(1280, 1000) - (320 * 1280 + norm(1280))  # nor its last convolution
LITE2 = 6_092_072 - linear(1280, 1000) - (352 * 1280 + norm(1280))
# DCNv2: two offsets and a modulation for each of 9 taps, in 4, 23 and 3 blocks of c3, c4 and c5
OFFSETS = sum(blocks * 27 * (9 * width + 1) for blocks, width in ((4, 512), (23, 1024), (3, 2048)))


def slim(classes: int, queries: int, stages: int = 3, track: bool = True) -> int:
    """The model for CPUs: EfficientNet-Lite0, 64 channels, narrow heads."""
    head = Head(channels=64, ffn=256, hidden=32, stages=stages, mask_convs=2, classes=classes)
    lateral = sum(linear(width, 64) for width in (24, 40, 112, 320))
    pyramid = lateral + 4 * linear(9 * 64, 64)
    heads = stages * (head.box_stage + head.mask_head) + queries * head.query
    return LITE0 + pyramid + heads + track * track_head(64, 256, 128)


def slim_lite2(classes: int, queries: int, stages: int, track: bool = True) -> int:
    """The same with EfficientNet-Lite2, whose levels are wider."""
    wider = sum((48, 120, 352)) - sum((40, 112, 320))
    return slim(classes, queries, stages, track) - LITE0 + LITE2 + 64 * wider


def swin(published: int, width: int) -> int:
    """Backbone, a LayerNorm for each of four levels, and narrower lateral convolutions."""
    widths = [width, 2 * width, 4 * width, 8 * width]
    classifier = norm(widths[-1]) + linear(widths[-1], 1000)
    lateral = PAPER.channels * (sum(widths) - (256 + 512 + 1024 + 2048))
    return published - classifier + norm(sum(widths)) + lateral


PARAMETERS = {
    "coco/queryinst_r50_100q_1x": R50_100,
    "coco/queryinst_r50_100q_3x": R50_100,
    "coco/queryinst_r50_100q_3x_640": R50_100,
    "coco/queryinst_r50_100q_5stages_3x_640": R50_100 - PAPER.box_stage - PAPER.mask_head,
    "coco/queryinst_r50_300q_3x_640": R50_300,
    "coco/queryinst_r50_300q_3x_crop": R50_300,
    "coco/queryinst_r50_300q_3x_crop_augmented": R50_300,
    "coco/queryinst_r101_300q_3x_640": R101_300,
    "coco/queryinst_r101_300q_3x_crop": R101_300,
    "coco/queryinst_x101_64x4d_dcn_300q_3x_crop": R50_100
    + 200 * PAPER.query
    - R50
    + X101
    + OFFSETS,
    "coco/queryinst_swin_t_100q_3x_crop": R50_100 - R50 + swin(28_288_354, 96),
    "coco/queryinst_swin_l_300q_50e_crop": R50_100
    + 200 * PAPER.query
    - R50
    + swin(196_532_476, 192),
    "ablations/queryinst": R50_100,
    "ablations/vanilla": VANILLA,
    "ablations/vanilla_last_stage": VANILLA
    - (PAPER.stages - 1) * (PAPER.mask_head - PAPER.dynamic_conv),
    "ablations/vanilla_flow": VANILLA + FLOW,
    "ablations/dynamic_last_stage": R50_100 - (PAPER.stages - 1) * PAPER.mask_head,
    "ablations/dynamic_flow": R50_100 + FLOW,
    "ablations/separate_query": R50_100 + OWN_QUERIES,
    "ablations/separate_attention": R50_100 + OWN_ATTENTION,
    "ablations/separate_query_and_attention": R50_100 + OWN_QUERIES + OWN_ATTENTION,
    "cityscapes/queryinst_r50_100q": R50_100 - 72 * PAPER.class_rows,
    "youtube_vis/queryinst_vis_r50_2019": VIS,
    "youtube_vis/queryinst_vis_r50_2019_multiscale": VIS,
    "youtube_vis/queryinst_vis_r50_2019_6e": VIS,
    "youtube_vis/queryinst_vis_r50_2021": VIS,
    "youtube_vis/queryinst_vis_r50_2022": VIS,
    "youtube_vis/queryinst_vis_r50_ovis": VIS + 20 * PAPER.query - 15 * PAPER.class_rows,
    "shapes": slim(6, 10, stages=4),
    "shapes_image": slim(6, 10, stages=4, track=False),
    "people": slim_lite2(1, 50, stages=4),
    "people_image": slim_lite2(1, 50, stages=4, track=False),
    "people_free_image": slim_lite2(1, 50, stages=4, track=False),
    "people_free": slim_lite2(1, 50, stages=4),
    "local/tiny_coco": slim(80, 30, track=False),
    "local/mots_vis": slim(1, 30),
}
FULL_SIZE = [name for name in PARAMETERS if "/" in name and not name.startswith("local/")]


@pytest.fixture(autouse=True)
def _data_folder(monkeypatch):
    """Some configs reference it; nothing is read from it here."""
    monkeypatch.setenv("QUERYINST_VIS_DATA", "no-such-folder")


@cache
def load(name: str) -> Config:
    return load_config(CONFIGS / f"{name}.yaml")


def test_every_config_is_in_the_table():
    paths = {path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml")}
    names = {str(path.with_suffix("")) for path in paths if path.parts[0] != "_base_"}
    assert names == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_recipe_passes_the_training_checks(name):
    config = load(name)
    check_recipe(config.train)
    check_input(config.input)
    assert config.train.lr_steps == sorted(config.train.lr_steps)
    assert config.train.lr_steps[-1] < config.train.max_steps
    assert config.inference.max_per_image == config.model.num_queries


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_recipe_builds_with_its_exact_parameter_count(name):
    assert count_parameters(json.dumps(asdict(load(name).model))) == PARAMETERS[name]


@cache
def count_parameters(model: str) -> int:
    """Of the model that this part of a config describes, built on the meta device."""
    config = config_from_dict({"model": json.loads(model)}, "the table")
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(config).parameters())


# A step

# The smallest relative of each backbone
SMALLER = {
    "resnet50": "resnet10t",
    "resnet101": "resnet10t",
    "resnext101_64x4d": "resnet14t",  # has the bottlenecks that deformable convolutions need
    "swin_tiny_patch4_window7_224": "swin_tiny_patch4_window7_224",
    "swin_large_patch4_window7_224.ms_in22k": "swin_tiny_patch4_window7_224",
    "tf_efficientnet_lite0": "tf_efficientnet_lite0",
    "tf_efficientnet_lite2": "tf_efficientnet_lite0",
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_recipe_trains_a_step_at_reduced_width(name, tmp_path):
    config = copy.deepcopy(load(name))
    model = config.model
    model.backbone.name = SMALLER[model.backbone.name]
    model.channels, model.num_stages, model.num_heads = 32, 2, 4
    model.ffn_channels, model.dynamic_channels, model.mask.num_convs = 64, 8, 1
    model.track.hidden_channels, model.track.embedding_channels = 32, 16
    config.input.train_short, config.input.train_long = [64], [96]
    train_a_step(config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL_SIZE)
def test_every_recipe_trains_a_step_at_full_size(name, tmp_path):
    train_a_step(copy.deepcopy(load(name)), tmp_path)


def train_a_step(config: Config, folder: Path) -> None:
    """One optimiser step of the trainer, on a picture with the classes of the config."""
    write = write_videos if config.model.track.enabled else write_images
    config.data.train_extra, config.data.num_workers = [], 0
    config.data.allow_absent_classes = True
    config.train.batch_size = 1
    config.data.train = write(folder / "set")
    rename_classes(Path(config.data.train.annotations), config.model.classes)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    torch.manual_seed(0)
    model = build_model(config).to(device)
    criterion = Criterion(config.losses, config.model.mask.parallel)
    step = TrainingStep(model, criterion, config.losses.track, config.train.both_ways).train()
    optimizer = build_optimizer(model, config.train)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    set_learning_rate(optimizer, config.train.warmup_steps, config.train)

    losses = step(next(train_loader(config)).to(device))
    sum(losses.values()).backward()
    optimizer.step()

    assert all(loss.isfinite() for loss in losses.values())
    assert ("track" in losses) == config.model.track.enabled
    dice = [name for name in losses if name.endswith("dice")]
    assert len(dice) == (config.model.num_stages if config.model.mask.parallel else 1)
    for name, value in model.named_parameters():
        assert value.isfinite().all()
        if value.requires_grad and value.grad is not None and value.grad.any():
            assert (value != before[name]).any(), name
        if not value.requires_grad:
            assert (value == before[name]).all(), name
    assert (model.queries != before["queries"]).any()


def rename_classes(annotations: Path, classes: list[str]) -> None:
    """Rename the set's classes, box and crate, to classes of the model."""
    content = read_json(annotations, "annotation file")
    names = {"box": classes[0], "crate": classes[-1] if len(classes) > 1 else "unseen"}
    for category in content["categories"]:
        category["name"] = names.get(category["name"], category["name"])
    write_json_atomically(annotations, content)
