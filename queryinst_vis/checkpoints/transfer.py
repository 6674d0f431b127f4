"""Initialising a model from another: other classes, queries or stages, image to video.

Tensors with the same name and shape are copied, a backbone as a whole or not at all; additional
stages start as copies of the last (adapt.py). Rows of classes are matched by class name; new
classes are initialised with the mean of the checkpoint's rows or with one of them; rows of queries
are selected by a rule (query_rules.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import torch

from queryinst_vis.checkpoints.adapt import (
    has_backbone_of,
    with_missing_stages,
    without_other_backbone,
)
from queryinst_vis.checkpoints.aliases import match_rows
from queryinst_vis.checkpoints.catalogue import (
    CATALOGUE,
    SHORT_NAMES,
    cached_weights,
    find_weights,
)
from queryinst_vis.checkpoints.fit_neck import fit_neck
from queryinst_vis.checkpoints.hub import SCHEME
from queryinst_vis.checkpoints.query_rules import Source, pick_queries
from queryinst_vis.checkpoints.weights import (
    StateDict,
    load_weights,
    save_weights,
)
from queryinst_vis.config import Config, DatasetConfig, resolved
from queryinst_vis.errors import InputError
from queryinst_vis.models.build import build_model, load_backbone_weights
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.utils.files import check_not_read
from queryinst_vis.utils.tensor_files import shape_text

CLASS_ROWS = re.compile(r"(stages\.\d+\.class_predictor|mask_heads\.\d+\.predictor)\.(weight|bias)")
REPEATED_NOISE = 0.3  # standard deviation, relative to that of the embeddings
QUERY_ROWS = re.compile(r"queries|proposals|mask_queries\.queries")


def transfer_checkpoint(
    src: str | Path,
    config: Config,
    dst: str | Path,
    queries: str = "first",
    calibration: DatasetConfig | None = None,
    new_classes_from: str | None = None,
    neck_images: DatasetConfig | None = None,
) -> list[str]:
    """Write initial weights for the config's model, transferred from another checkpoint.

    Args:
        src: a name or a file: ``.safetensors`` or a ``last.ckpt``.
        config: of the target model.
        dst: the ``.safetensors`` file, for ``train.init_weights``.
        queries: rule for selecting queries if the numbers differ: a key of ``QUERY_RULES``.
        calibration: the set for ``most_used``.
        new_classes_from: class of the checkpoint that initialises new classes; None:
            ``train.init_new_classes_from``.
        neck_images: a set on which to fit the FPN to another backbone (fit_neck.py).

    Returns:
        Messages: the source of each class, and what keeps its initialisation.

    Raises:
        InputError: an unreadable checkpoint, an unknown rule, a class missing in the checkpoint,
            a model with nothing in common.
    """
    dst = Path(dst)
    if dst.suffix != ".safetensors":
        raise InputError(f"{dst}: the weights to write must be named *.safetensors")
    path = find_weights(src)
    check_not_read(dst, path)
    source = Source(*load_weights(path), config.model.classes, calibration)
    torch.manual_seed(config.seed)
    model = build_model(config)
    rows = pick_queries(queries, source, config.model.num_queries)
    ancestor = new_classes_from or config.train.init_new_classes_from
    lines = transfer(model, config, source, rows, f"checkpoint {path}", ancestor)
    if neck_images:
        lines += fit_neck(model, config, source, neck_images)
    save_weights(dst, model, config)
    return [*lines, f"wrote {dst}"]


def brings_backbone(config: Config, name_or_path: str | Path) -> bool:
    """Whether a checkpoint for ``train.init_weights`` has the backbone of the config's model.

    Raises:
        InputError: an unreadable checkpoint or a hub URL, since configs cannot trigger downloads.
    """
    with torch.device("meta"):
        model = build_model(config)
    return has_backbone_of(model.state_dict(), load_weights(_local(name_or_path))[1])


def initialise_from(model: QueryInst, config: Config, name_or_path: str | Path) -> list[str]:
    """Initialise a model from another checkpoint (``train.init_weights``).

    New classes follow ``train.init_new_classes_from``. Queries keep their initialisation
    if their number differs: to select queries of the checkpoint, use ``transfer_checkpoint``
    first.

    Returns:
        Messages, as for ``transfer_checkpoint``.

    Raises:
        InputError: an unreadable checkpoint, one that has nothing in common with the model or
            lacks the class that initialises new ones; or a hub URL, since configs cannot trigger
            downloads.
    """
    path = _local(name_or_path)
    source = Source(*load_weights(path), config.model.classes)
    rows = pick_queries("reinitialise", source, config.model.num_queries)
    where, ancestor = f"train.init_weights {path}", config.train.init_new_classes_from
    lines = transfer(model, config, source, rows, where, ancestor)
    if source.config.model.num_queries != config.model.num_queries:
        lines.append("  to start from some of its queries: 'queryinst-vis transfer-weights'")
    return lines


def _local(name_or_path: str | Path) -> Path:
    """The file that ``train.init_weights`` names, which may be in the cache."""
    name = SHORT_NAMES.get(str(name_or_path), str(name_or_path))
    is_missing = name in CATALOGUE and not cached_weights(name).is_file()
    if name.startswith(SCHEME) or (is_missing and not Path(name_or_path).is_file()):
        raise InputError(
            f"train.init_weights {name_or_path}: a config cannot trigger downloads; run "
            f"'queryinst-vis weights {name_or_path}', and use the file that it prints"
        )
    return find_weights(name_or_path)


def transfer(
    model: QueryInst,
    config: Config,
    source: Source,
    queries: list[int],
    where: str,
    new_classes_from: str | None = None,
) -> list[str]:
    """Copy matching weights of another checkpoint to a model.

    If the checkpoint lacks the model's backbone, ``model.backbone.weights`` are loaded.

    Args:
        model, config: the model to initialise.
        source: the checkpoint; may be in half precision.
        queries: rows of the checkpoint's queries that become the model's first ones.
        where: names the checkpoint in messages.
        new_classes_from: class of the checkpoint that initialises new classes; None:
            the mean of all its classes.

    Returns:
        Messages.

    Raises:
        InputError: no layer of the checkpoint matches, or it lacks the class
            ``new_classes_from``.
    """
    state = model.state_dict()
    weights, dropped = without_other_backbone(state, source.weights)
    weights, copied = with_missing_stages(state, weights)
    ancestors = _ancestors(source.config.model.classes, new_classes_from, where)
    matches = match_rows(source.config.model.classes, config.model.classes)
    classes = [ancestors if row is None else [row] for row in matches]
    taken = _inherit(state, weights, classes, queries)
    if not any(value.dim() > 1 and not _has_rows(name) for name, value in taken.items()):
        raise InputError(
            f"{where}: no layer matches: the checkpoint is a {_architecture(source.config)}, the "
            f"model a {_architecture(config)}; choose weights with the same backbone or the same "
            "model.channels"
        )
    backbone = config.model.backbone.weights
    if backbone and not has_backbone_of(state, source.weights):
        load_backbone_weights(model, resolved(backbone, "model.backbone.weights"))
    model.load_state_dict(taken, strict=False)
    lines = [f"{where}: {len(taken)} of {len(state)} tensors copied", *dropped, *copied]
    if any(map(CLASS_ROWS.fullmatch, taken)):
        lines += _describe_classes(config, source.config, matches, new_classes_from)
    if "queries" in taken:
        lines.append(_describe_queries(config, source.config, queries))
    lines += [
        f"  {name}: {shape_text(weights[name])} in the checkpoint, {shape_text(state[name])} in "
        "the model: keeps its initialisation"
        for name in state
        if name in weights and name not in taken
    ]
    lines += _summarise("not in the checkpoint, keep their initialisation", state.keys() - weights)
    lines += _summarise("not in the model, left out", weights.keys() - state)
    return lines


def _ancestors(classes: list[str], name: str | None, where: str) -> list[int]:
    """Rows of the checkpoint whose mean initialises new classes."""
    if name is None:
        return list(range(len(classes)))
    if name not in classes:
        raise InputError(
            f"{where}: has no class '{name}' to initialise new classes; its classes are "
            f"{', '.join(classes)}"
        )
    return [classes.index(name)]


def _inherit(
    state: StateDict, weights: StateDict, classes: list[list[int]], queries: list[int]
) -> StateDict:
    """New values of the model's tensors that match the checkpoint.

    Args:
        state: state dict of the model.
        weights: state dict of the checkpoint.
        classes: for each class of the model, the rows of the checkpoint to average.
        queries: rows of the checkpoint's queries for the first queries of the model. If one is
            repeated, all keep the model's own proposals, and noise separates the copies.
    """
    taken = {}
    repeated = torch.tensor([row in queries[:index] for index, row in enumerate(queries)])
    for name in [name for name in state if name in weights]:
        current, saved = state[name], weights[name]
        if not _has_rows(name):
            if current.shape == saved.shape:
                taken[name] = saved
        elif current.shape[1:] == saved.shape[1:]:
            saved = saved.to(current)
            if CLASS_ROWS.fullmatch(name):
                taken[name] = torch.stack([saved[rows].mean(dim=0) for rows in classes])
            elif queries and not (name == "proposals" and repeated.any()):
                picked = saved[queries]
                if repeated.any():
                    noise = REPEATED_NOISE * saved.std() * torch.randn_like(picked)
                    picked += noise * repeated[:, None]
                taken[name] = torch.cat((picked, current[len(queries) :]))
    return taken


def _has_rows(name: str) -> bool:
    """Whether the rows of a tensor belong to classes or queries."""
    return bool(CLASS_ROWS.fullmatch(name) or QUERY_ROWS.fullmatch(name))


def _architecture(config: Config) -> str:
    return f"{config.model.backbone.name} with {config.model.channels} channels"


def _describe_classes(
    config: Config, source: Config, matches: list[int | None], new_classes_from: str | None
) -> Iterator[str]:
    """One line per class, or a single line if the classes are the same."""
    classes, saved = config.model.classes, source.model.classes
    if classes == saved:
        yield f"  classes: the same {len(classes)}"
        return
    count = sum(row is not None for row in matches)
    yield f"  classes: {count} of {len(classes)} are in the checkpoint"
    ancestor = new_classes_from or f"the mean of its {len(saved)} classes"
    for name, row in zip(classes, matches, strict=True):
        yield f"    {name} <- " + (f"{ancestor} (new)" if row is None else saved[row])


def _describe_queries(config: Config, source: Config, queries: list[int]) -> str:
    count, saved = config.model.num_queries, source.model.num_queries
    if count == saved:
        return f"  queries: the same {count}"
    if len(set(queries)) < len(queries):
        used = len(set(queries))
        return (
            f"  queries: {count} from {used} of the checkpoint's {saved}, with their own proposals"
        )
    numbers = ", ".join(map(str, queries))
    rest = count - len(queries)
    kept = f"; the other {rest} keep their initialisation" if rest else ""
    return f"  queries: {len(queries)} of the checkpoint's {saved}: {numbers}{kept}"


def _summarise(what: str, names: Collection[str]) -> list[str]:
    """At most one line for all tensors, grouped by module."""
    if not names:
        return []
    modules = sorted({".".join(name.split(".")[:2]) for name in names})
    shown = ", ".join(modules[:6]) + (", ..." if len(modules) > 6 else "")
    return [f"  {what}: {len(names)} tensors of {shown}"]
