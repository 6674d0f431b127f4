"""Rules for selecting queries of a checkpoint if a model has fewer, or more.

The paper does not say how 100 queries become 10 for video, so the rule is left to the user. Rules
select whole queries, since an embedding and its proposal box were trained together; a query that is
selected several times gets a new box each time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from queryinst_vis.checkpoints.aliases import match_rows
from queryinst_vis.checkpoints.weights import StateDict, build_for_inference
from queryinst_vis.config import Config, DatasetConfig
from queryinst_vis.data.frames import load_pixels
from queryinst_vis.data.loader import sample_images
from queryinst_vis.data.transforms import network_input
from queryinst_vis.errors import InputError
from queryinst_vis.models.boxes import draw_proposals
from queryinst_vis.models.cpu.forms import replace_roi_align
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.utils.device import choose_device
from queryinst_vis.utils.progress import ProgressBar

CONFIDENT = 0.3  # minimum score of a query that counts as used
CALIBRATION_IMAGES = 500  # maximum number of images, evenly spaced in the set


@dataclass(frozen=True)
class Source:
    """A checkpoint to initialise from.

    Attributes:
        config, weights: as returned by ``load_weights``.
        target_classes: classes of the model to initialise.
        calibration: set for the rule ``most_used``.
    """

    config: Config
    weights: StateDict
    target_classes: list[str]
    calibration: DatasetConfig | None = None


def pick_first(source: Source, count: int) -> list[int]:
    """The first queries; as queries have no order, this is an arbitrary selection."""
    return list(range(min(count, source.config.model.num_queries)))


def pick_kmeans(source: Source, count: int) -> list[int]:
    """The query closest to the centre of each k-means cluster of the embeddings.

    Fewer than ``count`` if the embeddings form fewer clusters.
    """
    embeddings = source.weights["queries"].double().numpy()
    count = min(count, len(np.unique(embeddings, axis=0)))
    seed = np.random.default_rng(source.config.seed)
    centres, clusters = kmeans2(embeddings, count, iter=100, minit="++", seed=seed)
    distances = np.linalg.norm(embeddings - centres[clusters], axis=1)
    nearest = [
        min(np.flatnonzero(clusters == cluster), key=distances.__getitem__)
        for cluster in np.unique(clusters)
    ]
    return sorted(int(query) for query in nearest)


def pick_most_used(source: Source, count: int) -> list[int]:
    """The queries that are confident in the most images of the calibration set.

    Only scores of shared classes count, if the models share any.

    Raises:
        InputError: there is no calibration set, or it is invalid.
    """
    if source.calibration is None:
        raise InputError("query rule 'most_used' needs --calibrate ANNOTATIONS IMAGES")
    classes = source.config.model.classes
    shared = [row for row in match_rows(classes, source.target_classes) if row is not None]
    known = [*classes, *(name for name in source.target_classes if name not in classes)]
    images = sample_images(source.calibration, known, CALIBRATION_IMAGES)
    model = build_for_inference(source.config, source.weights, "checkpoint").to(choose_device())
    replace_roi_align(model)
    uses = torch.zeros(len(model.queries))
    with ProgressBar("counting uses of the queries", len(images)) as progress:
        for image in images:
            scores = class_scores(model, source.config, load_pixels(image))
            best = scores[:, shared or slice(None)].amax(dim=1)
            # the mean score is below 1, so it only breaks ties
            uses += (best >= CONFIDENT) + best / len(images)
            progress.advance()
    return sorted(uses.topk(min(count, len(uses))).indices.tolist())


def pick_nearest(source: Source, count: int) -> list[int]:
    """For each box of a grid of ``count`` proposals, the query whose proposal is nearest.

    Queries are picked several times if there are more boxes: a model with more queries than the
    checkpoint starts with an even distribution.
    """
    grid = draw_proposals(count, "grid")
    boxes = source.weights["proposals"].float()
    return torch.cdist(grid[:, :2], boxes[:, :2]).argmin(dim=1).tolist()


def pick_none(source: Source, count: int) -> list[int]:
    """No queries: all keep their initialisation."""
    return []


QUERY_RULES: dict[str, Callable[[Source, int], list[int]]] = {
    "first": pick_first,
    "kmeans": pick_kmeans,
    "most_used": pick_most_used,
    "nearest": pick_nearest,
    "reinitialise": pick_none,
}


def pick_queries(rule: str, source: Source, count: int) -> list[int]:
    """Rows of at most ``count`` queries of the checkpoint; only "nearest" repeats some.

    Args:
        rule: a key of ``QUERY_RULES``; ignored if the checkpoint has ``count`` queries.
        source: the checkpoint.
        count: number of queries of the model to initialise.

    Raises:
        InputError: an unknown rule, or a calibration set that is missing or not used by the rule.
    """
    if rule not in QUERY_RULES:
        raise InputError(f"query rule '{rule}': choose one of {', '.join(QUERY_RULES)}")
    if source.calibration is not None and rule != "most_used":
        raise InputError(f"query rule '{rule}': only most_used needs a calibration set")
    if count == source.config.model.num_queries:
        return list(range(count))
    return QUERY_RULES[rule](source, count)


@torch.inference_mode()
def class_scores(model: QueryInst, config: Config, frame: np.ndarray) -> Tensor:
    """``(N, K)`` scores (0..1) of the last stage's queries for one frame."""
    images, sizes = network_input([frame], config)
    output = model(images.to(model.device), sizes)
    return output.stages[-1].class_logits[0].float().sigmoid().cpu()
