"""Where a training step's time goes: data, forward with losses, backward, update.

Runs the steps of a config on its own data, in one process, with the data loaded in that process,
so that decoding and augmenting are seen and not hidden by workers. Prints the median seconds of
each part and images per second; a checkout of another commit on PYTHONPATH compares::

    OMP_NUM_THREADS=1 python benchmarks/training.py configs/people.yaml
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from queryinst_vis.config import Config, load_config
from queryinst_vis.data.loader import train_loader
from queryinst_vis.engine.schedule import build_optimizer
from queryinst_vis.engine.step import TrainingStep
from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.models.build import build_model

PARTS = ("data", "forward and losses", "backward", "update")
Times = dict[str, list[float]]


def time_steps(config: Config, steps: int) -> tuple[Times, int]:
    """Seconds of every part of every step, and the images of a step."""
    torch.manual_seed(config.seed)
    model = build_model(config)
    criterion = Criterion(config.losses, config.model.mask.parallel)
    step = TrainingStep(model, criterion, config.losses.track, config.train.both_ways).train()
    optimizer = build_optimizer(model, config.train)
    batches = iter(train_loader(config, 0, 0, 1))
    times: Times = defaultdict(list)

    def timed(part: str, call: Callable):
        start = time.perf_counter()
        result = call()
        times[part].append(time.perf_counter() - start)
        return result

    def update() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), config.train.clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(steps + 1):  # the first one warms up
        batch = timed("data", lambda: next(batches))
        losses = timed("forward and losses", lambda batch=batch: step(batch))
        timed("backward", sum(losses.values()).backward)
        timed("update", update)
    images = len(batch.images) * (1 if batch.reference is None else 2)
    return {part: values[1:] for part, values in times.items()}, images


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config", help="a training config, e.g. configs/people.yaml")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=12, metavar="N")
    arguments = parser.parse_args()
    config = load_config(arguments.config, [*arguments.overrides, "data.num_workers=0"])
    times, images = time_steps(config, arguments.steps)
    table = Table("part", "seconds", "share", title=f"{arguments.config}: {images} images a step")
    medians = {part: median(times[part]) for part in PARTS}
    total = sum(medians.values())
    for part, seconds in medians.items():
        table.add_row(part, f"{seconds:.3f}", f"{seconds / total:.0%}")
    console = Console()
    console.print(table)
    console.print(
        f"{images / total:.2f} images/s; {images / (total - medians['data']):.2f} with data ready; "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
