"""Parity with mmdetection's QueryInst: outputs of every stage for the same weights and image.

Builds mmdetection's R50 model with 80 classes, 10 queries and random weights, converts the weights,
runs both models on a random image, and prints the largest difference of each output. Exit status 1
if one exceeds its tolerance. Not part of the tests, since mmdetection needs a separate environment,
which takes about 6 minutes to install on two cores::

    python -m venv parity && . parity/bin/activate
    pip install torch==2.13.0 torchvision==0.28.0 'setuptools<81' wheel ninja psutil numpy
    CFLAGS="-O1 -g0" MMCV_WITH_OPS=1 FORCE_CUDA=0 MAX_JOBS=2 \\
        pip install --no-build-isolation mmcv==2.1.0
    pip install mmdet==3.3.0 mmengine==0.10.7
    pip install -e .
    python benchmarks/peers/mmdet_parity.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import register_all_modules
from mmengine.hub import get_config
from torch import Tensor, nn

from queryinst_vis.checkpoints.openmmlab import convert_state_dict, export_state_dict
from queryinst_vis.checkpoints.openmmlab_config import infer_config
from queryinst_vis.models.build import build_model

SIZE = (240, 320)  # of the image without padding
PADDED = (256, 320)
TOLERANCE = 1e-4
BOX_TOLERANCE = 1e-2  # pixels, after six refinements

Row = tuple[str, Tensor]


def build_theirs(queries: int) -> nn.Module:
    """mmdetection's published R50 config with another number of queries, randomly initialised."""
    register_all_modules()
    config = get_config("mmdet::queryinst/queryinst_r50_fpn_1x_coco.py").model
    config.rpn_head.num_proposals = queries
    config.backbone.init_cfg = None  # no downloads
    model = MODELS.build(config)
    model.init_weights()
    for name, value in model.state_dict().items():  # a new model has trivial statistics
        if name.endswith("running_mean"):
            value.normal_(std=0.1)
        elif name.endswith("running_var"):
            value.uniform_(1.0, 1.2)
        elif name.endswith(("bn3.weight", "init_proposal_bboxes.weight")):
            value.uniform_(0.2, 0.4)
        elif name.endswith("fc_reg.weight"):
            # keeps boxes near the image after six refinements, as in a trained model
            value.mul_(0.1)
    return model.eval()


def their_outputs(model: nn.Module, image: Tensor) -> Iterator[Row]:
    """Names and values of the outputs of every stage."""
    sample = DetDataSample(metainfo={"img_shape": SIZE, "ori_shape": SIZE})
    features = model.extract_feat(image)
    for level, feature in enumerate(features):
        yield f"P{level + 2}", feature
    proposals = model.rpn_head.predict(features, [sample])
    boxes = [each.bboxes for each in proposals]
    queries = torch.stack([each.features for each in proposals])
    head = model.roi_head
    for index in range(head.num_stages):
        stage = head._bbox_forward(index, features, bbox2roi(boxes), queries, [sample.metainfo])
        boxes, queries = stage["detached_proposals"], stage["object_feats"]
        masks = head._mask_forward(index, features, bbox2roi(boxes), stage["attn_feats"])
        yield f"stage {index} class logits", stage["cls_score"][0]
        yield f"stage {index} boxes", boxes[0]
        yield f"stage {index} queries", queries[0]
        yield f"stage {index} q*", stage["attn_feats"][0]
        yield f"stage {index} mask logits", masks["mask_preds"]


def our_outputs(model: nn.Module, image: Tensor) -> Iterator[Row]:
    """Names and values of the outputs of our model."""
    output = model(image, [SIZE])
    for level, feature in enumerate(output.features):
        yield f"P{level + 2}", feature
    all_queries = torch.arange(len(model.queries))
    for index, stage in enumerate(output.stages):
        yield f"stage {index} class logits", stage.class_logits[0]
        yield f"stage {index} boxes", stage.boxes[0]
        yield f"stage {index} queries", stage.queries[0]
        yield f"stage {index} q*", stage.q_star[0]
        yield f"stage {index} mask logits", model.mask_logits(index, output, [all_queries])


@torch.no_grad()
def main() -> int:
    """Compare and print; exit status 1 if a difference exceeds its tolerance."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queries", type=int, default=10, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    theirs = build_theirs(arguments.queries)
    weights = convert_state_dict(theirs.state_dict())
    exported = export_state_dict(weights)
    unchanged = all(torch.equal(exported[key], value) for key, value in theirs.state_dict().items())
    ours = build_model(infer_config(weights)).eval()
    ours.load_state_dict(weights)
    image = torch.zeros(1, 3, *PADDED)
    image[..., : SIZE[0], : SIZE[1]] = torch.randn(1, 3, *SIZE)

    print(f"parameters: {_count(theirs):,} theirs, {_count(ours):,} ours")
    print(f"round trip of the weights: {'bitwise identical' if unchanged else 'CHANGED'}")
    print(f"{'output':24} {'largest value':>14} {'largest difference':>19}")
    within = unchanged and _count(theirs) == _count(ours)
    pairs = zip(their_outputs(theirs, image), our_outputs(ours, image), strict=True)
    for (name, expected), (_, actual) in pairs:
        difference = (actual - expected).abs().max().item()
        within &= difference <= (BOX_TOLERANCE if name.endswith("boxes") else TOLERANCE)
        print(f"{name:24} {expected.abs().max().item():14.4f} {difference:19.2e}")
    print("within tolerance" if within else "NOT within tolerance")
    return 0 if within else 1


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    sys.exit(main())
