"""Fine-tuning on custom data: all other settings are derived from the weights and the data."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from queryinst_vis.checkpoints.catalogue import find_weights
from queryinst_vis.checkpoints.weights import load_weights
from queryinst_vis.config import Config, DataConfig, DatasetConfig, TrainConfig, apply_overrides
from queryinst_vis.data.convert import youtube_vis_to_coco
from queryinst_vis.data.convert.own_data import OwnData, read_own_data
from queryinst_vis.data.tools.edit import filter_set
from queryinst_vis.data.tools.split import sequences_of, split_set
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.formats.annotation_set import AnnotationSet, parse_set
from queryinst_vis.formats.findings import refuse_faults
from queryinst_vis.formats.names import list_names
from queryinst_vis.training.launch import processes_per_node
from queryinst_vis.training.record import BaseConfig
from queryinst_vis.training.train import train
from queryinst_vis.training.work_dir import check_run
from queryinst_vis.utils.files import files_together, write_json_atomically

SMALL_SET = 500  # images or videos; below this, a larger fraction is held out
MAX_BATCH_SIZE = 4  # to fit into the memory of a small GPU
EVALUATIONS = 20
_IN_STEPS = {"train.max_steps", "train.lr_steps", "train.eval_every", "train.warmup_steps"}
PATIENCE = 6


def finetune(
    weights: str | Path,
    data: OwnData | str | Path,
    work_dir: str | Path,
    overrides: Sequence[str] = (),
    validation: OwnData | str | Path | None = None,
    held_out: float | None = None,
    devices: str | int = "auto",
    nodes: int = 1,
) -> None:
    """Fine-tune weights on other data.

    Model, losses, input sizes and augmentation are taken from the weights, classes from the data.
    The data are written to ``work_dir/data`` as ``train.json`` and ``val.json``. Training works
    as in ``train``, with early stopping, and can be resumed with ``train(..., resume=True)``.

    Args:
        weights: a name or a file.
        data: training data; a path is read by ``read_own_data``.
        work_dir: a new folder.
        overrides: dotlist overrides of the config.
        validation: validation data; None: the validation set of the data, otherwise a held-out
            part of the data, selected by a hash of the names (``split_set``).
        held_out: fraction of the data to hold out, 0..1, even if the data have a validation set;
            None: 0.2 for fewer than 500 images or videos, otherwise 0.1; 0: train on all data
            without validation.
        devices: processes per node, as for ``train``.
        nodes: number of nodes, as for ``train``.

    Raises:
        InputError: as ``train``; the data have no instances; or both ``validation`` and
            ``held_out`` are given.

    Example::

        queryinst_vis.finetune("people", "my_photos", "work/mine", ["train.epochs=1"])
    """
    work_dir = Path(work_dir)
    check_run(work_dir, resume=False)
    processes = nodes * processes_per_node(devices)
    data = data if isinstance(data, OwnData) else read_own_data(data)
    if not isinstance(validation, OwnData | None):
        validation = read_own_data(validation)
    path = find_weights(weights)
    config, _ = load_weights(path)
    base = BaseConfig(f"weights {weights}", config)
    if validation is not None and held_out is not None:
        raise InputError("held_out (--held-out): not used with a validation set (--val)")
    if held_out is None:  # otherwise, the part of the training set replaces the data's own
        validation = validation or data.validation
    parts = _write_data(data, validation, held_out, work_dir / "data")
    config = finetune_config(config, path, *parts, overrides, processes)
    train(config, work_dir, devices=devices, nodes=nodes, base=base)


def finetune_config(
    config: Config,
    weights: Path,
    classes: list[str],
    samples: int,
    train_set: DatasetConfig,
    val_set: DatasetConfig,
    overrides: Sequence[str] = (),
    processes: int = 1,
) -> Config:
    """The config for fine-tuning.

    Args:
        config: of the weights.
        weights: the weights file.
        classes: class names.
        samples: number of training images or annotated video frames.
        train_set, val_set: the data; ``val_set.annotations`` is None without validation.
        overrides: dotlist overrides; with ``train.max_steps``, or other keys in steps, the length
            is in steps instead of epochs.
        processes: number of processes, which share the steps.
    """
    config = copy.deepcopy(config)
    config.model.classes = classes
    config.model.backbone.weights = None
    config.data = DataConfig(train=train_set, val=val_set)
    if config.input.test_short not in config.input.train_short:  # converted weights
        config.input.train_short = [config.input.test_short]
        config.input.train_long = [config.input.test_long]
    # scores of new classes are low at first, but AP uses all detections
    config.inference.score_threshold = min(config.inference.score_threshold, 0.05)
    recipe = replace(
        config.train,
        init_weights=str(weights),
        init_new_classes_from=None,
        batch_size=min(config.train.batch_size, MAX_BATCH_SIZE),
        accumulate=1,
        precision="auto",
        loggers=TrainConfig().loggers,
        lr_gamma=0.1,
        checkpoint_every=200,
        patience=PATIENCE if val_set.annotations else 0,
    )
    # in epochs, since batch size and number of processes may be overridden
    epochs = max(epochs_for(samples), math.ceil(EVALUATIONS * recipe.batch_size / samples))
    given = apply_overrides(
        replace(config, train=replace(recipe, epochs=None)), list(overrides)
    ).train
    overridden = {override.partition("=")[0] for override in overrides}
    batch = processes * given.batch_size * given.accumulate
    # the steps of plan_schedule, so that it does not rescale other keys in steps
    steps = max(math.ceil((given.epochs or epochs) * samples / batch), 1)
    if "train.max_steps" in overridden:
        steps = given.max_steps
    recipe = _plan(replace(recipe, epochs=None if overridden & _IN_STEPS else epochs), steps)
    return apply_overrides(replace(config, train=recipe), list(overrides))


def epochs_for(samples: int) -> int:
    """Number of epochs: 30 for 50 samples, 19 for 500, 12 for 5,000."""
    return min(max(round(30 * (50 / samples) ** 0.2), 6), 60)


def _plan(recipe: TrainConfig, steps: int) -> TrainConfig:
    return replace(
        recipe,
        max_steps=steps,
        warmup_steps=steps // 20,
        lr_steps=[round(steps * 0.75), round(steps * 0.92)],
        eval_every=max(steps // EVALUATIONS, 1),
        log_every=min(max(steps // 100, 1), 50),
    )


def _write_data(
    data: OwnData, validation: OwnData | None, held_out: float | None, folder: Path
) -> tuple[list[str], int, DatasetConfig, DatasetConfig]:
    """Write the sets; returns the classes, the number of training samples, and both sets."""
    whole = _open(data)
    classes = list(whole.categories.values())
    train_set = DatasetConfig(
        str((folder / "train.json").resolve()), str(data.images.resolve()), keep_empty=True
    )
    val_set = DatasetConfig(
        str((folder / "val.json").resolve()), str((validation or data).images.resolve())
    )
    if validation is not None:
        train_data, val_data = whole.content, _open(validation).content
    elif held_out == 0:
        train_data, val_data, val_set = whole.content, None, DatasetConfig()
    elif len(set(sequences_of(whole).values())) < 2:
        _warn_no_validation(data, f"a single {whole.kind} cannot be split")
        train_data, val_data, val_set = whole.content, None, DatasetConfig()
    else:
        fraction = held_out or (0.2 if len(whole.videos) < SMALL_SET else 0.1)
        train_data, val_data = split_set(whole, fraction)
        if all(entry.get("iscrowd") for entry in val_data["annotations"]):
            _warn_no_validation(data, f"training needs the only {whole.kind} with objects")
            train_data, val_data, val_set = whole.content, None, DatasetConfig()
    samples = sum(len(video.get("file_names", [0])) for video in train_data[f"{whole.kind}s"])
    with files_together():
        write_json_atomically(folder / "train.json", train_data)
        if val_data is not None:
            write_json_atomically(folder / "val.json", _scorable(val_data))
    val_size = 0 if val_data is None else len(val_data[f"{whole.kind}s"])
    print(
        f"{data.kind}: {len(train_data[f'{whole.kind}s'])} {whole.kind}s for training, {val_size} "
        f"for validation, in {folder}; classes: {list_names(classes)}"
    )
    return classes, samples, train_set, val_set


def _warn_no_validation(data: OwnData, reason: str) -> None:
    warnings.warn(
        f"{data.kind}: {reason}: there is no validation and no early stopping; give a validation "
        "set with --val",
        InputWarning,
        stacklevel=4,
    )


def _open(data: OwnData) -> AnnotationSet:
    """The set without classes that have no instances."""
    report = refuse_faults(data.kind, "training")
    whole = parse_set(data.content, report, data.kind)
    return parse_set(filter_set(whole, classes=_classes(whole)), report, data.kind)


def _classes(whole: AnnotationSet) -> list[str]:
    """The classes with at least one instance, in file order."""
    used = {
        entry["category_id"]
        for entries in whole.entries.values()
        for entry in entries
        if not entry.get("iscrowd")
    }
    classes = [name for id_, name in whole.categories.items() if id_ in used]
    if not classes:
        raise InputError(f"{whole.where}: no annotations to train on")
    if unused := [name for name in whole.categories.values() if name not in classes]:
        print(f"classes without instances are left out: {list_names(unused)}")
    return classes


def _scorable(content: dict[str, Any]) -> dict[str, Any]:
    """A validation set in which either all or no instances have masks, as COCO AP requires.

    Track AP requires masks: videos that contain boxes without masks are converted to images.
    """
    if "videos" in content:
        if not any(map(_has_box_without_mask, content["annotations"])):
            return content
        content = youtube_vis_to_coco(content)
    entries = content["annotations"]
    masked = [bool(entry.get("segmentation")) for entry in entries]
    if all(masked) or not any(masked):
        return content
    unmasked = len(masked) - sum(masked)
    warnings.warn(
        f"{unmasked} of the {len(masked)} held-out instances have no mask: evaluation uses boxes",
        InputWarning,
        stacklevel=4,
    )
    return {**content, "annotations": [{**entry, "segmentation": []} for entry in entries]}


def _has_box_without_mask(track: dict[str, Any]) -> bool:
    """Whether the track has a box without a mask in some frame."""
    shown = zip(track["segmentations"], track["bboxes"], strict=True)
    return any(mask is None and box is not None for mask, box in shown)
