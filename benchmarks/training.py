"""Time of each part of a training step, and the effect of each optimisation.

Runs training steps of a config on its own data, in a single process without data loading workers,
which would hide the time of decoding and augmentation, and prints the median seconds of each
part::

    python benchmarks/training.py configs/people.yaml

``--compare`` runs the same steps once per variant, each in a separate process: the unmodified model
in float32 with consecutive samples in a batch, then one more optimisation per line. It prints the
mean seconds per step (since rare shapes dominate the time), the ratios, and the differences of the
losses where the batches are the same::

    python benchmarks/training.py configs/people.yaml --compare --steps 60
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.optim import AdamW

from queryinst_vis.checkpoints.transfer import initialise_from
from queryinst_vis.config import Config, load_config
from queryinst_vis.data.loader import train_loader
from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.models.build import build_model
from queryinst_vis.models.cpu.forms import Forms
from queryinst_vis.models.cpu.training_form import to_training_form
from queryinst_vis.training.launch import choose_precision
from queryinst_vis.training.schedule import build_optimizer, parameter_groups
from queryinst_vis.training.step import TrainingStep
from queryinst_vis.utils.allocator import keep_freed_memory

PARTS = ("data", "forward and losses", "backward", "update")
KERNEL_CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


@dataclass(frozen=True)
class Variant:
    """A variant of the training step.

    Attributes:
        forms: the forms of modules for faster training on CPUs.
        fused: whether to use the fused optimiser.
        kernels: capacity of oneDNN's kernel cache.
        precision: precision, as named by Lightning Fabric.
        window: ``train.shape_window``.
    """

    forms: Forms = Forms()  # noqa: RUF009 (it is frozen)
    fused: bool = True
    kernels: int = 20000
    precision: str = "bf16-mixed"
    window: int = 32


VARIANTS = {
    "plain": Variant(Forms(fold_norms=False, roi_align=False), False, 1024, "32-true", 0),
    "vectorised RoIAlign": Variant(Forms(fold_norms=False), False, 1024, "32-true", 0),
    "folded batch norms": Variant(Forms(), False, 1024, "32-true", 0),
    "fused optimizer": Variant(Forms(), True, 1024, "32-true", 0),
    "larger oneDNN kernel cache": Variant(Forms(), True, 20000, "32-true", 0),
    "bf16": Variant(Forms(), True, 20000, "bf16-mixed", 0),
    "batches of similar shape": Variant(),
}


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    if arguments.compare:
        compare(arguments)
        return
    keep_freed_memory()
    config = load_config(arguments.config, [*arguments.overrides, "data.num_workers=0"])
    if arguments.variant:
        config.train.shape_window = VARIANTS[arguments.variant].window
    variant = VARIANTS.get(
        arguments.variant, Variant(precision=choose_precision(config.train.precision))
    )
    measured = measure(config, variant, arguments.steps)
    if arguments.variant:
        print(json.dumps(measured))
    else:
        report(measured, arguments.config)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a training config, e.g. configs/people.yaml")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="default: %(default)s")
    parser.add_argument("--compare", action="store_true", help="run every variant")
    parser.add_argument("--variant", choices=VARIANTS, help="run this variant and print JSON")
    return parser.parse_args()


def measure(config: Config, variant: Variant, steps: int) -> dict[str, Any]:
    """Seconds of every part of every step, losses, and the sizes of the batches."""
    torch.manual_seed(config.seed)
    model = build_model(config)
    if config.train.init_weights:
        initialise_from(model, config, config.train.init_weights)
    to_training_form(model, variant.forms)
    criterion = Criterion(config.losses, config.model.mask.parallel)
    step = TrainingStep(model, criterion, config.losses.track, config.train.both_ways).train()
    optimizer = (
        build_optimizer(model, config.train)
        if variant.fused
        else AdamW(parameter_groups(model, config.train), lr=config.train.lr)
    )
    for group in optimizer.param_groups:
        group["lr"] = 1e-5  # small enough not to diverge, whatever the schedule
    batches = iter(train_loader(config, 0, 0, 1))
    times: dict[str, list[float]] = defaultdict(list)
    losses, pixels = [], []

    def timed(part: str, call: Callable):
        start = time.perf_counter()
        result = call()
        times[part].append(time.perf_counter() - start)
        return result

    def forward(batch):
        mixed = variant.precision == "bf16-mixed"
        with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext():
            return sum(step(batch).values())

    def update() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), config.train.clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(steps + 1):  # the first one warms up
        batch = timed("data", lambda: next(batches))
        loss = timed("forward and losses", lambda batch=batch: forward(batch))
        timed("backward", loss.backward)
        timed("update", update)
        losses.append(loss.item())
        frames = 1 if batch.reference is None else 2
        pixels.append(frames * len(batch.images) * batch.images.shape[2] * batch.images.shape[3])
    return {
        "times": {part: values[1:] for part, values in times.items()},
        "losses": losses,
        "pixels": mean(pixels[1:]),
        "images": frames * len(batch.images),
    }


def report(measured: dict[str, Any], name: str) -> None:
    """Print the times of the parts of a step."""
    images = measured["images"]
    table = Table("part", "seconds", "share", title=f"{name}: {images} images per step")
    medians = {part: median(measured["times"][part]) for part in PARTS}
    total = sum(medians.values())
    for part, seconds in medians.items():
        table.add_row(part, f"{seconds:.3f}", f"{seconds / total:.0%}")
    console = Console()
    console.print(table)
    console.print(
        f"{images / total:.2f} images/s, "
        f"{images / (total - medians['data']):.2f} without data loading; "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )


def compare(arguments: argparse.Namespace) -> None:
    """Run every variant and print its time, speed-up and loss difference."""
    words = [sys.executable, __file__, arguments.config, *arguments.overrides]
    table = Table("", "s/step", "speed-up", "data", "pixels", "max loss difference")
    first = None
    for name, variant in VARIANTS.items():
        environment = {**os.environ, KERNEL_CACHE: str(variant.kernels)}
        options = ["--steps", str(arguments.steps), "--variant", name]
        done = subprocess.run(
            [*words, *options], env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        measured = json.loads(done.stdout.splitlines()[-1])
        first = first or measured
        steps = [sum(parts) for parts in zip(*measured["times"].values(), strict=True)]
        reference = [sum(parts) for parts in zip(*first["times"].values(), strict=True)]
        same = variant.window == VARIANTS["plain"].window
        table.add_row(
            name,
            f"{mean(steps):.3f}",
            f"{mean(reference) / mean(steps):.2f}",
            f"{mean(measured['times']['data']):.3f}",
            f"{measured['pixels'] / first['pixels']:.0%}",
            f"{_difference(measured, first):.1e}" if same else "different batches",
        )
    console = Console(width=110)
    console.print(table)
    cpu_flags = [name for name, value in torch.cpu.get_capabilities().items() if value is True]
    console.print(
        f"{arguments.config}, {arguments.steps} steps; {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}; CPU: {', '.join(cpu_flags)}"
    )


def _difference(measured: dict[str, Any], first: dict[str, Any]) -> float:
    """The largest relative difference of the losses of the first 50 steps."""
    pairs = zip(measured["losses"][:50], first["losses"][:50], strict=True)
    return max(abs(ours - theirs) / abs(theirs) for ours, theirs in pairs)


if __name__ == "__main__":
    main()
