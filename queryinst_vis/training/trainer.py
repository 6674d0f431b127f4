"""One process of a training run: its loop, evaluations and saved states."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

import torch
from lightning.fabric import Fabric
from omegaconf import OmegaConf

from queryinst_vis.checkpoints.training_state import (
    TrainingState,
    save_training_state,
)
from queryinst_vis.checkpoints.transfer import brings_backbone, initialise_from
from queryinst_vis.checkpoints.weights import load_exactly, save_weights
from queryinst_vis.config import Config, differences, resolved
from queryinst_vis.data.loader import load_batches, open_training_set
from queryinst_vis.data.v2_transforms import Transforms
from queryinst_vis.errors import InputError
from queryinst_vis.formats.training_starts import append_start
from queryinst_vis.inference.detector import check_inference
from queryinst_vis.models.build import build_model, load_backbone_weights
from queryinst_vis.models.cpu.training_form import to_training_form
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.structures import Batch
from queryinst_vis.training.average import WeightAverage
from queryinst_vis.training.launch import SharedError, agree, end_all, gather
from queryinst_vis.training.log import MetricsLog, StepMeans
from queryinst_vis.training.recipe import (
    describe_schedule,
    plan_schedule,
)
from queryinst_vis.training.record import BaseConfig, describe_start
from queryinst_vis.training.samples import TRAINING_SHEET, TrainingSheet
from queryinst_vis.training.update import Updater
from queryinst_vis.training.validation import Validation
from queryinst_vis.utils.files import atomic_path
from queryinst_vis.utils.interrupt import StopRequest
from queryinst_vis.utils.progress import ProgressBar


class Trainer:
    """One process of a training run.

    Args:
        fabric: launched.
        config: of the run.
        work_dir: where rank 0 writes.
        state: to resume from, or None to start at step 0.
        pretrained_backbone: download the backbone's weights with timm for a new run.
        transforms, base: as for ``train``.
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
        self.validation = Validation(fabric, config, work_dir, state)
        samples = open_training_set(config, transforms)
        scale = samples.epoch_length, fabric.world_size
        self.recipe = plan_schedule(config.train, *scale)
        start = self.step * self.recipe.accumulate
        self.batches = load_batches(samples, config, start, fabric.global_rank, fabric.world_size)
        self.progress = ProgressBar(
            "training",
            self.recipe.max_steps,
            done=self.step,
            line_every=self.recipe.log_every,
            visible=self._is_first,
        )
        self._announce(describe_schedule(self.recipe, *scale))
        self.model = (
            self._resumed_model(state) if state else self._initial_model(pretrained_backbone)
        )
        if not self.model.backbone.can_freeze:
            raise InputError(
                f"model.backbone.frozen_stages: the parameters of {config.model.backbone.name} do "
                "not show to which stage they belong; set it to 0"
            )
        if fabric.device.type == "cpu":
            to_training_form(self.model)
        moments = state.moments if state else None
        self.updater = Updater(fabric, self.model, config, self.recipe, moments)
        self.average = self._open_average(state)
        self.means = StepMeans()
        self._patience_exhausted = self.validation.patience_exhausted
        self._evaluated = state.evaluated if state else None
        self.log: MetricsLog | None = None  # rank 0 only
        self._sheet: TrainingSheet | None = None
        is_shown = (work_dir / "samples" / TRAINING_SHEET).exists()
        if self._is_first and self.recipe.samples and not is_shown:
            self._sheet = TrainingSheet(config.model, self.recipe.samples)

    @property
    def _is_first(self) -> bool:
        return self.fabric.is_global_zero

    def _announce(self, line: str) -> None:
        """Print a message about the start and record it."""
        self.progress.print(line)
        self._notes.append(line)

    def _resumed_model(self, state: TrainingState) -> QueryInst:
        model = build_model(self.config)
        load_exactly(model, state.model, f"checkpoint {self.work_dir / 'last.ckpt'}")
        for key, (new, old) in differences(self.config, state.config).items():
            self._announce(f"resumed with another {key}: {new} (was {old})")
        return model

    def _initial_model(self, pretrained_backbone: bool) -> QueryInst:
        start, backbone = self.recipe.init_weights, self.config.model.backbone.weights
        start = resolved(start, "train.init_weights") if start else None
        if start and pretrained_backbone:
            pretrained_backbone = not brings_backbone(self.config, start)
        torch.manual_seed(self.config.seed)
        model = build_model(self.config, pretrained_backbone)
        if start:
            for line in initialise_from(model, self.config, start):
                self._announce(line)
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
        self.updater.set_training_mode()
        with StopRequest() as stop, self.progress:
            try:
                self._run_steps(stop)
            except SystemExit:  # rank 0 saves the state
                raise
            except SharedError:
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
        self.fabric.barrier()  # no process returns before the files are complete
        self.progress.print(self._summary())

    def _run_steps(self, stop: StopRequest) -> None:
        if self.step and self._is_due(self.recipe.eval_every):
            self._evaluate()  # if the run was stopped before this evaluation
        while self.step < self.recipe.max_steps and not self._patience_exhausted:
            batches = self._read_batches()
            self._show(batches)
            self._update(batches)
            if self._is_due(self.recipe.eval_every):
                self._evaluate()
            if self._is_due(self.recipe.checkpoint_every):
                self._save_state()
            if agree(self.fabric, stop.requested):
                self._stop()
        if not self._patience_exhausted:
            self._evaluate()

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _read_batches(self) -> list[Batch]:
        """The batches of one step. If any process fails to read its batches, all processes end."""
        if self.fabric.world_size == 1:
            return list(islice(self.batches, self.recipe.accumulate))
        batches, reason = [], ""
        try:
            batches = list(islice(self.batches, self.recipe.accumulate))
        except Exception as error:
            reason = str(error) or type(error).__name__
        if agree(self.fabric, bool(reason)):
            end_all(self.fabric, next(filter(None, gather(self.fabric, [reason]))))
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
        losses, norm, rate = self.updater.update(batches, self.step)
        if self.average:
            self.average.update(self.model)
        self.step += 1
        self.updater.complete()
        self.means.add(losses, norm, time.monotonic() - begin)
        note = self._log(rate) if self._is_due(self.recipe.log_every) else None
        self.progress.advance(note=note)

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
        self.updater.set_training_mode()
        if metrics and self.log is not None:
            self.log.write(self.step, {f"val/{name}": value for name, value in metrics.items()})
            self.log.draw()
            shown = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            self.progress.print(f"step {self.step}: {shown}")
        self._patience_exhausted = agree(self.fabric, self.validation.patience_exhausted)
        self._evaluated = self.step

    def _summary(self) -> str:
        lines = [f"done: weights in {self.work_dir / 'final.safetensors'}"]
        if self._patience_exhausted:
            lines.insert(
                0,
                f"stopped early: no better score in {self.validation.stale} evaluations "
                "(train.patience)",
            )
        if self.validation.best is not None:
            best = self.work_dir / "best.safetensors"
            lines.append(f"best weights (score {self.validation.best:.3f}) in {best}")
        return "\n".join(lines)

    def _save_state(self) -> None:
        if self._is_first:
            state = TrainingState(
                self.step,
                self.validation.best,
                self.config,
                self.model.state_dict(),
                self.updater.moments(),
                self.average.model.state_dict() if self.average else None,
                self.validation.stale,
                self._evaluated,
            )
            save_training_state(self.work_dir / "last.ckpt", state)

    def _rescue(self) -> None:
        """Save the state of the last complete step after an error, and report it."""
        if self.step == 0 or not self.updater.is_consistent:
            return
        self.updater.restore_buffers()
        self._save_state()
        self.progress.print(
            f"the state after step {self.step} is saved; continue with: "
            f"--work-dir {self.work_dir} --resume"
        )

    def _stop(self) -> None:
        self._save_state()
        self.fabric.barrier()  # see end_all
        raise SystemExit(
            f"stopped after step {self.step}; continue with: --work-dir {self.work_dir} --resume"
        )


def _write_config(path: Path, config: Config) -> None:
    with atomic_path(path) as temporary:
        OmegaConf.save(OmegaConf.structured(config), temporary)
