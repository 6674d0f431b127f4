"""The training loop, on Lightning Fabric."""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from lightning.fabric import Fabric
from omegaconf import OmegaConf
from torch import Tensor

from queryinst_vis.checkpoints.load import check_same_model
from queryinst_vis.checkpoints.training_state import (
    TrainingState,
    load_training_state,
    save_training_state,
)
from queryinst_vis.checkpoints.transfer import initialise_from
from queryinst_vis.checkpoints.weights import load_exactly, save_weights
from queryinst_vis.config import Config, differences, resolved
from queryinst_vis.data.loader import load_batches, open_training_set
from queryinst_vis.data.v2_transforms import Transforms
from queryinst_vis.errors import InputError
from queryinst_vis.formats.training_starts import append_start
from queryinst_vis.inference.detector import check_inference
from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.models.build import build_model, load_backbone_weights
from queryinst_vis.models.cpu.training_form import to_training_form
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.structures import Batch
from queryinst_vis.training.average import WeightAverage
from queryinst_vis.training.launch import gather, launch, reduce
from queryinst_vis.training.log import MetricsLog, StepMeans
from queryinst_vis.training.recipe import (
    check_recipe,
    describe_schedule,
    plan_schedule,
    settle_precision,
)
from queryinst_vis.training.record import BaseConfig, describe_start
from queryinst_vis.training.samples import TRAINING_SHEET, TrainingSheet
from queryinst_vis.training.schedule import (
    build_optimizer,
    load_moments,
    moments_by_name,
    set_learning_rate,
)
from queryinst_vis.training.step import TrainingStep, zero_of_unused
from queryinst_vis.training.validation import Validation
from queryinst_vis.training.work_dir import check_run, locked
from queryinst_vis.utils.files import atomic_path
from queryinst_vis.utils.interrupt import StopRequest
from queryinst_vis.utils.progress import ProgressBar


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

    A step is one update of the weights from ``accumulate`` batches of every process. Its random
    numbers depend only on the seed and the step, so a resumed run ends with exactly the same
    weights as an uninterrupted one.

    Args:
        config: the recipe, the model and the data.
        work_dir: a new folder, or that of the run to resume.
        resume: continue from ``last.ckpt``.
        devices: processes per node, or ``"auto"``.
        nodes: number of nodes.
        pretrained_backbone: download ImageNet weights of the backbone with timm, once per machine.
        transforms: augmentation in the style of ``torchvision.transforms.v2``, applied after
            ``input.transforms``: any callable that takes and returns a
            ``data.v2_transforms.Sample``. For exact resuming it must use the global random
            generators of torch, numpy or Python.
        base: the config before overrides, for the record in ``starts.jsonl``.

    Raises:
        InputError: invalid recipe, data or weights, a folder that already contains a run (or none
            to resume) or is in use by another run, or a loss that is no longer finite.
        SystemExit: Ctrl-C or SIGTERM; the state has been saved.

    Example::

        config = queryinst_vis.load_config("config.yaml", ["train.max_steps=2"])
        queryinst_vis.train(config, "work/run")
    """
    check_recipe(config.train)
    work_dir = Path(work_dir)
    check_run(work_dir, resume)
    with locked(work_dir):
        state = _open_run(work_dir, config, resume)
        config = settle_precision(config, state.config if state else None)
        fabric = launch(devices, nodes, config.train.precision)
        trainer = Trainer(fabric, config, work_dir, state, pretrained_backbone, transforms, base)
        fabric.barrier()  # every process has checked the folder before rank 0 writes
        trainer.run()


def _open_run(work_dir: Path, config: Config, resume: bool) -> TrainingState | None:
    """The state to resume from; None for a run that starts at step 0."""
    check_run(work_dir, resume)  # again: another process may have used the folder meanwhile
    if not resume:
        return None
    checkpoint = work_dir / "last.ckpt"
    if not checkpoint.exists():  # stopped before its first checkpoint
        return None
    state = load_training_state(checkpoint)
    check_same_model(config, state.config, f"checkpoint {checkpoint}")
    return state


class _SharedError(InputError):
    """How all processes of a run end."""


class Trainer:
    """One process of a training run.

    Args:
        fabric: launched.
        config: of the run.
        work_dir: where rank 0 writes.
        state: to resume from, or None to start at step 0.
        pretrained_backbone: download the backbone's weights with timm for a new run.
        transforms, base: see ``train``.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: Config,
        work_dir: Path,
        state: TrainingState | None,
        pretrained_backbone: bool = False,
        transforms: Transforms | None = None,
        base: BaseConfig | None = None,
    ) -> None:
        self.fabric = fabric
        self._base = base
        self._notes: list[str] = []  # messages at startup
        self.config = config
        self.work_dir = work_dir
        self.step = state.step if state else 0
        check_inference(config)
        criterion = Criterion(config.losses, config.model.mask.parallel)
        self.validation = Validation(fabric, config, work_dir, state)
        samples = open_training_set(config, transforms)
        extent = samples.epoch_length, fabric.world_size
        self.recipe = plan_schedule(config.train, *extent)
        start = self.step * self.recipe.accumulate
        self.batches = load_batches(samples, config, start, fabric.global_rank, fabric.world_size)
        self.progress = ProgressBar(
            "training",
            self.recipe.max_steps,
            done=self.step,
            line_every=self.recipe.log_every,
            visible=self._is_first,
        )
        self._tell(describe_schedule(self.recipe, *extent))
        self.model = self._build_model(state, pretrained_backbone and state is None)
        if fabric.device.type == "cpu":
            to_training_form(self.model)
        module = TrainingStep(self.model, criterion, config.losses.track, self.recipe.both_ways)
        optimizer = build_optimizer(self.model, self.recipe)
        self.module, self.optimizer = fabric.setup(module, optimizer)
        if state:  # after the setup, which moves the parameters to their device
            load_moments(self.optimizer, self.model, state.moments)
        self.average = self._open_average(state)
        self.means = StepMeans()
        self._gave_up = self.validation.gave_up
        self._evaluated = state.evaluated if state else None
        self._is_whole = True  # False while an update is under way
        self._buffers: list[Tensor] = []  # their values before the current step
        self.log: MetricsLog | None = None  # rank 0 only
        self._sheet: TrainingSheet | None = None
        is_shown = (work_dir / "samples" / TRAINING_SHEET).exists()
        if self._is_first and self.recipe.samples and not is_shown:
            self._sheet = TrainingSheet(config.model, self.recipe.samples)

    @property
    def _is_first(self) -> bool:
        return self.fabric.is_global_zero

    def _tell(self, line: str) -> None:
        """Print a message about the start and record it."""
        self.progress.print(line)
        self._notes.append(line)

    def _build_model(self, state: TrainingState | None, pretrained_backbone: bool) -> QueryInst:
        torch.manual_seed(self.config.seed)
        model = build_model(self.config, pretrained_backbone and not self.recipe.init_weights)
        if state:
            load_exactly(model, state.model, f"checkpoint {self.work_dir / 'last.ckpt'}")
            for key, (new, old) in differences(self.config, state.config).items():
                self._tell(f"resumed with another {key}: {new} (was {old})")
            return model
        start, backbone = self.recipe.init_weights, self.config.model.backbone.weights
        if start:  # includes the backbone
            for line in initialise_from(model, self.config, resolved(start, "train.init_weights")):
                self._tell(line)
        elif backbone:
            load_backbone_weights(model, resolved(backbone, "model.backbone.weights"))
        return model

    def _open_average(self, state: TrainingState | None) -> WeightAverage | None:
        decay = self.recipe.average_decay
        if not decay:
            return None
        return WeightAverage(self.model, decay, self.step, state.average if state else None)

    @property
    def _published(self) -> QueryInst:
        """The model to evaluate and save: the average, if there is one."""
        return self.average.model if self.average else self.model

    def run(self) -> None:
        """Train to the last step, until early stopping, or until a stop is requested."""
        if self._is_first:
            _write_config(self.work_dir / "config.yaml", self.config)
            start = describe_start(self.fabric, self.config, self._base, self.step, self._notes)
            append_start(self.work_dir, start)
            self.log = MetricsLog(self.work_dir, self.step, self.recipe.loggers)
        self.module.train()
        with StopRequest() as stop, self.progress:
            try:
                if self.step and self._is_due(self.recipe.eval_every):
                    self._evaluate()  # if the run was stopped before it could
                while self.step < self.recipe.max_steps and not self._gave_up:
                    batches = self._read_batches()
                    self._show(batches)
                    self._update(batches)
                    if self._is_due(self.recipe.eval_every):
                        self._evaluate()
                    if self._is_due(self.recipe.checkpoint_every):
                        self._save_state()
                    if self._agree(stop.requested):
                        self._stop()
                if not self._gave_up:
                    self._evaluate()
            except SystemExit:  # rank 0 saves the state
                raise
            except _SharedError:
                self._rescue()
                self.fabric.barrier()
                raise
            except BaseException:
                self._rescue()
                raise
        self._save_state()
        if self.log is not None:
            save_weights(self.work_dir / "final.safetensors", self._published, self.config)
            self.log.close()
        self.fabric.barrier()  # the files are complete when any process returns
        self.progress.print(self._summary())

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _read_batches(self) -> list[Batch]:
        """The batches of one step. If a process cannot read its own, all processes end."""
        if self.fabric.world_size == 1:
            return list(islice(self.batches, self.recipe.accumulate))
        batches, reason = [], ""
        try:
            batches = list(islice(self.batches, self.recipe.accumulate))
        except Exception as error:
            reason = str(error) or type(error).__name__
        if self._agree(bool(reason)):
            self._end_all(next(filter(None, gather(self.fabric, [reason]))))
        return batches

    def _show(self, batches: list[Batch]) -> None:
        """Draw the first training samples."""
        if self._sheet is None:
            return
        for batch in batches:
            self._sheet.add(batch)
        self._sheet.write(self.work_dir / "samples" / TRAINING_SHEET)
        if self._sheet.is_full:
            self._sheet = None

    def _update(self, batches: list[Batch]) -> None:
        """One step: an update with the clipped gradients of ``accumulate`` batches."""
        begin = time.monotonic()
        self._buffers = [buffer.clone() for buffer in self.model.buffers()]
        torch.manual_seed(self._step_seed())
        rate = set_learning_rate(self.optimizer, self.step, self.recipe)
        losses = self._add_gradients(batches)
        clipped = self.fabric.clip_gradients(
            self.module,
            self.optimizer,
            max_norm=self.recipe.clip_norm,
            error_if_nonfinite=False,  # checked here, with a message that names the loss
        )
        norm = torch.as_tensor(clipped)  # Fabric returns None only for clip_val
        if not norm.isfinite():  # the same in every process, unlike the losses
            self._fail(losses | {"the gradient norm": norm})
        self._is_whole = False
        self.optimizer.step()
        self.optimizer.zero_grad()
        weights = torch.stack(torch._foreach_norm(list(self.model.parameters()))).sum()
        if not weights.isfinite():  # the last saved state is kept for resuming
            self._fail({"the norm of the updated weights": weights.detach()})
        if self.average:
            self.average.update(self.model)
        self.step += 1
        self._buffers = []
        self._is_whole = True
        self.means.add(losses, norm, time.monotonic() - begin)
        note = self._log(rate) if self._is_due(self.recipe.log_every) else None
        self.progress.advance(note=note)

    def _step_seed(self) -> int:
        """Random seed (dropout etc.) of every step and process."""
        sequence = np.random.SeedSequence([self.config.seed, self.step, self.fabric.global_rank])
        return int(sequence.generate_state(1)[0])

    def _add_gradients(self, batches: list[Batch]) -> dict[str, Tensor]:
        """Run the backward passes of one step; returns its mean losses."""
        parts = len(batches)
        means: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.fabric.device))
        for part, batch in enumerate(batches):
            with self.fabric.no_backward_sync(self.module, enabled=part < parts - 1):
                losses = self.module(batch.to(self.fabric.device))
                loss = sum(losses.values(), torch.zeros((), device=self.fabric.device))
                if self.fabric.world_size > 1:
                    loss = loss + zero_of_unused(loss, self.model)
                self.fabric.backward(loss / parts)
            for name, value in losses.items():
                means[name] = means[name] + value.detach() / parts
        return means

    def _fail(self, values: dict[str, Tensor]) -> NoReturn:
        """End the run because of a non-finite value, which is the same in every process."""
        reason = next(
            f"{name} is {value.item()}" for name, value in values.items() if not value.isfinite()
        )
        self._end_all(
            f"training diverged at step {self.step}: {reason}; lower train.lr or train.clip_norm, "
            "or lengthen train.warmup_steps"
        )

    def _end_all(self, reason: str) -> NoReturn:
        """End all processes; rank 0 reports the reason and saves the state.

        The others wait, since a process that exits terminates all others on its machine.
        """
        if self._is_first:
            raise _SharedError(reason)
        self.fabric.barrier()
        raise SystemExit(2)

    def _log(self, rate: float) -> str:
        """Log the means since the last call, over all processes; returns a summary."""
        metrics = self.means.close(self.fabric) | {"lr": rate}
        if self.log is not None:
            self.log.write(self.step, metrics)
        return (
            f"loss {metrics['loss']:.3f}  lr {rate:.2e}  {metrics['seconds_per_step']:.2f} s/step"
        )

    def _evaluate(self) -> None:
        """Evaluate the model, once per step, and save it if it is the best so far."""
        if self._evaluated == self.step:
            return
        with self.progress.paused():
            metrics = self.validation.run(self._published, self.step)
        self.module.train()
        if metrics and self.log is not None:
            self.log.write(self.step, {f"val/{name}": value for name, value in metrics.items()})
            self.log.draw()
            shown = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            self.progress.print(f"step {self.step}: {shown}")
        self._gave_up = self._agree(self.validation.gave_up)
        self._evaluated = self.step

    def _summary(self) -> str:
        lines = [f"done: weights in {self.work_dir / 'final.safetensors'}"]
        if self._gave_up:
            lines.insert(
                0,
                f"stopped early: no better score in {self.validation.stale} evaluations "
                "(train.patience)",
            )
        if self.validation.best is not None:
            best = self.work_dir / "best.safetensors"
            lines.append(f"the best ones, which scored {self.validation.best:.3f}, in {best}")
        return "\n".join(lines)

    def _save_state(self) -> None:
        if self._is_first:
            state = TrainingState(
                self.step,
                self.validation.best,
                self.config,
                self.model.state_dict(),
                moments_by_name(self.optimizer, self.model),
                self.average.model.state_dict() if self.average else None,
                self.validation.stale,
                self._evaluated,
            )
            save_training_state(self.work_dir / "last.ckpt", state)

    def _rescue(self) -> None:
        """Save the state of the last complete step, whatever ended the run, and report it."""
        if self.step == 0 or not self._is_whole:
            return
        for buffer, before in zip(self.model.buffers(), self._buffers, strict=False):
            buffer.copy_(before)  # the running statistics before an incomplete step
        self._save_state()
        self.progress.print(
            f"the state after step {self.step} is saved; go on with: "
            f"--work-dir {self.work_dir} --resume"
        )

    def _agree(self, stop: bool) -> bool:
        """Whether any process was asked to stop."""
        flag = torch.tensor(float(stop), device=self.fabric.device)
        return bool(reduce(self.fabric, flag, "sum") > 0)

    def _stop(self) -> None:
        self._save_state()
        self.fabric.barrier()  # see _end_all
        raise SystemExit(
            f"stopped after step {self.step}; go on with: --work-dir {self.work_dir} --resume"
        )


def _write_config(path: Path, config: Config) -> None:
    with atomic_path(path) as temporary:
        OmegaConf.save(OmegaConf.structured(config), temporary)
