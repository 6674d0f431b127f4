"""Effect of each CPU optimisation: the model as run by ``track``, and with one disabled.

All variants compute the same frame, interleaved so that other load affects all of them, and their
outputs are compared. Prints the median CPU time of each variant in milliseconds, summed over all
threads, and its ratio to that with all optimisations. A config gets random weights, as with
``queryinst-vis benchmark``::

    python benchmarks/steps.py configs/youtube_vis/queryinst_vis_r50_2019.yaml --threads 2
    python benchmarks/steps.py people --size 512x288
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from queryinst_vis.benchmark.inputs import endless_batches, obtain_weights, render_clip
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.inference.detector import Detector
from queryinst_vis.models.cpu.forms import Forms
from queryinst_vis.models.cpu.inference_form import to_inference_form
from queryinst_vis.models.mask_head import MaskHead
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.video.source import open_source

TOLERANCE = 1e-2  # pixels

WITHOUT = {
    "batch norms not folded": Forms(fold_norms=False),
    "torchvision's RoIAlign": Forms(roi_align=False),
}


def make_variants(model: QueryInst) -> dict[str, QueryInst]:
    """The model as run by ``track``, and without one or all of the optimisations."""
    variants = {"all optimisations": to_inference_form(copy.deepcopy(model))}
    for name, forms in WITHOUT.items():
        variants[name] = to_inference_form(copy.deepcopy(model), forms=forms)
    variants["masks of all classes"] = with_all_class_masks(to_inference_form(copy.deepcopy(model)))
    plain = copy.deepcopy(model).requires_grad_(False)
    variants["no optimisations"] = with_all_class_masks(plain)
    return variants


def with_all_class_masks(model: QueryInst) -> QueryInst:
    """The model with a last mask head that computes the masks of all classes, then selects one."""
    head = model.mask_heads[-1]
    head.predict = partial(predict_all_classes, head)
    return model


def predict_all_classes(head: MaskHead, refined: Tensor, labels: Tensor | None = None) -> Tensor:
    """``MaskHead.predict``, computing the masks of all classes."""
    masks = head.predictor(head.upsample(refined).relu())
    return masks if labels is None else masks[torch.arange(len(labels)), labels]


def main() -> int:
    """Measure, compare and print; exit status 1 if the boxes of a variant differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="weights by name or file, or a config YAML")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--size", default="640x360", metavar="WxH", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=12, metavar="N")
    parser.add_argument("--threads", type=int, metavar="N")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        weights = obtain_weights(arguments.model, [], 0, Path(folder))
        overrides = ["inference.one_label_per_query=true", "inference.score_threshold=0"]
        model, config = load_model(weights, "cpu", [*overrides, *arguments.overrides])
        frames = endless_batches(open_source(render_clip((width, height), 8, 0, Path(folder))), 1)
        variants = make_variants(model)
        times: dict[str, list[float]] = {name: [] for name in variants}
        difference, order = 0.0, random.Random(0)
        for _ in track(range(arguments.rounds + 1), "measuring", console=Console(stderr=True)):
            frame = next(frames)
            boxes = []
            # in random order, since caches are cold after another model
            for name in order.sample(list(variants), len(variants)):
                start = time.process_time()
                (detections,) = Detector(variants[name], config).detect_frames(frame)
                times[name].append(time.process_time() - start)
                boxes.append(detections.boxes)
            difference = max(difference, *((b - boxes[0]).abs().max().item() for b in boxes))
    table = Table("", "CPU ms (median)", "ratio", title=f"{arguments.model}, per frame")
    medians = {name: 1000 * median(values[1:]) for name, values in times.items()}
    fastest = medians["all optimisations"]
    for name, value in medians.items():
        table.add_row(name, f"{value:.0f}", f"{value / fastest:.2f}")
    console = Console()
    console.print(table)
    console.print(
        f"boxes differ by {difference:.1e} pixels at most; {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    return 0 if difference <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
