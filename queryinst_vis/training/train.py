"""Training a model, on Lightning Fabric."""

from __future__ import annotations

from pathlib import Path

from queryinst_vis.checkpoints.load import check_same_model
from queryinst_vis.checkpoints.training_state import (
    TrainingState,
    load_training_state,
)
from queryinst_vis.config import Config
from queryinst_vis.data.v2_transforms import Transforms
from queryinst_vis.training.launch import launch
from queryinst_vis.training.recipe import (
    check_recipe,
    resolve_precision,
)
from queryinst_vis.training.record import BaseConfig
from queryinst_vis.training.trainer import Trainer
from queryinst_vis.training.work_dir import check_run, locked


def train(
    config: Config,
    work_dir: str | Path,
    resume: bool = False,
    devices: str | int = "auto",
    nodes: int = 1,
    pretrained_backbone: bool = False,
    transforms: Transforms | None = None,
    base: BaseConfig | None = None,
) -> None:
    """Train a model.

    Writes to ``work_dir``: ``config.yaml``, ``metrics.csv`` with ``curves.png`` and TensorBoard
    events, ``last.ckpt`` for resuming, ``best.safetensors`` by the score on ``data.val``,
    ``samples/`` with training samples and predictions, ``starts.jsonl``, and
    ``final.safetensors``.

    A step is one update of the weights, from ``accumulate`` batches of every process. Its random
    numbers depend only on the seed, the step and the rank, so a resumed run ends with exactly the
    same weights as an uninterrupted one; on GPUs up to rounding, since some of their operators add
    in any order.

    Args:
        config: model, data and training recipe.
        work_dir: a new folder, or the folder of the run to resume.
        resume: continue from ``last.ckpt``.
        devices: processes per node, or ``"auto"``.
        nodes: number of nodes.
        pretrained_backbone: download ImageNet weights of the backbone with timm, once per machine.
        transforms: augmentation in the style of ``torchvision.transforms.v2``, applied after
            ``input.transforms``: any callable that takes and returns a
            ``data.v2_transforms.Sample``. For exact resuming, it must take its random numbers from
            the global generators of torch, numpy or Python.
        base: the config before overrides, for the record in ``starts.jsonl``.

    Raises:
        InputError: the recipe, data or weights are invalid; ``work_dir`` already contains a run,
            contains none to resume, or is in use; or a loss is no longer finite.
        SystemExit: after Ctrl-C or SIGTERM, when the state has been saved.

    Example::

        config = queryinst_vis.load_config("config.yaml", ["train.max_steps=2"])
        queryinst_vis.train(config, "work/run")
    """
    check_recipe(config.train)
    work_dir = Path(work_dir)
    check_run(work_dir, resume)
    with locked(work_dir):
        state = _open_run(work_dir, config, resume)
        config = resolve_precision(config, state.config if state else None)
        fabric = launch(devices, nodes, config.train.precision)
        trainer = Trainer(fabric, config, work_dir, state, pretrained_backbone, transforms, base)
        fabric.barrier()  # every process has checked the folder before rank 0 writes
        trainer.run()


def _open_run(work_dir: Path, config: Config, resume: bool) -> TrainingState | None:
    """The state to resume from; None for a run that starts at step 0."""
    check_run(work_dir, resume)  # again, since another process may have created a run
    if not resume:
        return None
    checkpoint = work_dir / "last.ckpt"
    if not checkpoint.exists():  # stopped before its first checkpoint
        return None
    state = load_training_state(checkpoint)
    check_same_model(config, state.config, f"checkpoint {checkpoint}")
    return state
