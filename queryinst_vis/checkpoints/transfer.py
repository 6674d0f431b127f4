"""From one model to another of the same make: other classes, other numbers of queries, video.

Tensors of the same name and shape are taken over. Rows that belong to classes follow their class
by name, wherever it stands, and new classes start from the mean of the checkpoint's or from one of
them; rows that belong to queries follow a rule (query_rules.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch

from queryinst_vis.checkpoints.aliases import match_rows
from queryinst_vis.checkpoints.catalogue import find_weights
from queryinst_vis.checkpoints.query_rules import Source, pick_queries
from queryinst_vis.checkpoints.weights import (
    StateDict,
    load_weights,
    save_weights,
    shape_text,
)
from queryinst_vis.config import Config, DatasetConfig
from queryinst_vis.errors import InputError
from queryinst_vis.models.build import build_model
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.utils.files import check_not_read

CLASS_ROWS = re.compile(r"(stages\.\d+\.class_predictor|mask_heads\.\d+\.predictor)\.(weight|bias)")
QUERY_ROWS = re.compile(r"queries|proposals|mask_queries\.queries")

ClassRows = list[list[int]]
"""For each class of the model the rows of the checkpoint whose mean it starts from."""


def transfer_checkpoint(
    src: str | Path,
    config: Config,
    dst: str | Path,
    queries: str = "first",
    calibration: DatasetConfig | None = None,
    new_classes_from: str | None = None,
) -> list[str]:
    """Write weights of the config's model that start from another checkpoint.

    Args:
        src: weights by name, or a file; ``.safetensors`` or a training's ``last.ckpt``.
        config: of the model to write, ready for ``train.init_weights``.
        dst: the ``.safetensors`` file.
        queries: which of the checkpoint's queries to keep, where the numbers differ: a key of
            ``QUERY_RULES``.
        calibration: the set on which ``most_used`` counts.
        new_classes_from: class of the checkpoint from whose rows new classes start; None: what
            ``train.init_new_classes_from`` says.

    Returns:
        Lines for the user: what was taken, class by class, and what keeps its initialisation.

    Raises:
        InputError: an unreadable checkpoint, an unknown rule, a class that the checkpoint does
            not know, a model with nothing in common.
    """
    dst = Path(dst)
    if dst.suffix != ".safetensors":
        raise InputError(f"{dst}: the weights to write must be named *.safetensors")
    path = find_weights(src)
    check_not_read(dst, path)
    source_config, weights = load_weights(path)
    source = Source(source_config, weights, config.model.classes, calibration)
    torch.manual_seed(config.seed)
    model = build_model(config)
    rows = pick_queries(queries, source, config.model.num_queries)
    ancestor = new_classes_from or config.train.init_new_classes_from
    lines = transfer(model, config, source_config, weights, rows, f"checkpoint {path}", ancestor)
    save_weights(dst, model, config)
    return [*lines, f"wrote {dst}"]


def initialise_from(model: QueryInst, config: Config, name_or_path: str | Path) -> list[str]:
    """Start a training from another checkpoint, as ``train.init_weights`` asks for.

    New classes start as ``train.init_new_classes_from`` says. Queries keep their initialisation
    where their number differs: to choose among those of the checkpoint, write a file with
    ``transfer_checkpoint`` first.

    Returns:
        Lines for the user, as of ``transfer_checkpoint``.

    Raises:
        InputError: an unreadable checkpoint, one that has nothing in common with the model, or
            that does not know the class from which new ones are to start.
    """
    path = find_weights(name_or_path)
    source_config, weights = load_weights(path)
    source = Source(source_config, weights, config.model.classes)
    rows = pick_queries("reinitialise", source, config.model.num_queries)
    where, ancestor = f"train.init_weights {path}", config.train.init_new_classes_from
    lines = transfer(model, config, source_config, weights, rows, where, ancestor)
    if source_config.model.num_queries != config.model.num_queries:
        lines.append("  to start from some of its queries: 'queryinst-vis transfer-weights'")
    return lines


def transfer(
    model: QueryInst,
    config: Config,
    source: Config,
    weights: StateDict,
    queries: list[int],
    where: str,
    new_classes_from: str | None = None,
) -> list[str]:
    """Copy into a model whatever another checkpoint has for it.

    Args:
        model, config: what is to be filled.
        source, weights: the checkpoint, as ``load_weights`` gives it; half precision will do.
        queries: rows of the checkpoint's queries that become the model's first ones.
        where: names the checkpoint in messages.
        new_classes_from: class of the checkpoint from whose rows classes that it does not know
            start; None: from the mean of all its classes.

    Raises:
        InputError: nothing in the checkpoint fits, but for single rows perhaps; or it does not
            know the class ``new_classes_from``.
    """
    own = model.state_dict()
    ancestors = _ancestors(source, new_classes_from, where)
    rows = match_rows(source.model.classes, config.model.classes)
    classes = [ancestors if row is None else [row] for row in rows]
    taken = _inherit(own, weights, classes, queries)
    if not any(value.dim() > 1 and not _of_rows(name) for name, value in taken.items()):
        raise InputError(
            f"{where}: no layer fits this model: it is a {_describe(source)}, this a "
            f"{_describe(config)}; choose weights of the same backbone or the same model.channels"
        )
    model.load_state_dict(taken, strict=False)
    return [
        f"{where}: {len(taken)} of {len(own)} tensors taken",
        *(
            _describe_classes(config, source, rows, new_classes_from)
            if any(map(_of_classes, taken))
            else ()
        ),
        *(_describe_queries(config, source, queries) if "queries" in taken else ()),
        *(
            f"  {name}: {shape_text(weights[name])} there, {shape_text(own[name])} here: "
            "keeps its initialisation"
            for name in own
            if name in weights and name not in taken
        ),
        *_summarise("not in the checkpoint, keep their initialisation", own.keys() - weights),
        *_summarise("not in this model, left out", weights.keys() - own),
    ]


def _ancestors(source: Config, name: str | None, where: str) -> list[int]:
    """Rows of the checkpoint whose mean a class starts from that the checkpoint does not know."""
    classes = source.model.classes
    if name is None:
        return list(range(len(classes)))
    if name not in classes:
        raise InputError(
            f"{where}: has no class '{name}' for new classes to start from; it has "
            f"{', '.join(classes)}"
        )
    return [classes.index(name)]


def _inherit(
    own: StateDict, weights: StateDict, classes: ClassRows, queries: list[int]
) -> StateDict:
    """The model's tensors that the checkpoint has something for, with that in them."""
    taken = {}
    for name in [name for name in own if name in weights]:
        mine, theirs = own[name], weights[name]
        if not _of_rows(name):
            if mine.shape == theirs.shape:
                taken[name] = theirs
        elif mine.shape[1:] == theirs.shape[1:]:
            if _of_classes(name):
                theirs = theirs.to(mine)
                taken[name] = torch.stack([theirs[rows].mean(dim=0) for rows in classes])
            elif queries:
                taken[name] = mine.clone()
                taken[name][: len(queries)] = theirs[queries].to(mine)
    return taken


def _of_classes(name: str) -> bool:
    return CLASS_ROWS.fullmatch(name) is not None


def _of_queries(name: str) -> bool:
    return QUERY_ROWS.fullmatch(name) is not None


def _of_rows(name: str) -> bool:
    return _of_classes(name) or _of_queries(name)


def _describe(config: Config) -> str:
    return f"{config.model.backbone.name} with {config.model.channels} channels"


def _describe_classes(
    config: Config, source: Config, rows: list[int | None], new_classes_from: str | None
) -> Iterator[str]:
    """A line per class; a single one where both models tell the same classes apart."""
    ours, theirs = config.model.classes, source.model.classes
    if ours == theirs:
        yield f"  classes: the same {len(ours)}"
        return
    count = sum(row is not None for row in rows)
    yield f"  classes: {count} of {len(ours)} have their rows in the checkpoint"
    ancestor = new_classes_from or f"the mean of its {len(theirs)} classes"
    for name, row in zip(ours, rows, strict=True):
        yield f"    {name} <- " + (f"{ancestor} (new)" if row is None else theirs[row])


def _describe_queries(config: Config, source: Config, queries: list[int]) -> Iterator[str]:
    here, there = config.model.num_queries, source.model.num_queries
    if here == there:
        yield f"  queries: the same {here}"
        return
    numbers = ", ".join(map(str, queries))
    rest = here - len(queries)
    kept = f"; the other {rest} keep their initialisation" if rest else ""
    yield f"  queries: {len(queries)} of the checkpoint's {there}: {numbers}{kept}"


def _summarise(what: str, names: set[str]) -> Iterator[str]:
    """At most one line for any number of tensors, by the modules that they belong to."""
    modules = sorted({".".join(name.split(".")[:2]) for name in names})
    shown = ", ".join(modules[:6]) + (", ..." if len(modules) > 6 else "")
    if names:
        yield f"  {what}: {len(names)} tensors of {shown}"
