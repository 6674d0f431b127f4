"""Averaging the weights of several files of one model ("model soup")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from queryinst_vis.checkpoints.catalogue import find_weights
from queryinst_vis.checkpoints.load import check_same_model
from queryinst_vis.checkpoints.weights import StateDict, load_weights, write_tensors
from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import check_not_read
from queryinst_vis.utils.tensor_files import shape_text


def average_weights(sources: Sequence[str | Path], dst: str | Path) -> str:
    """Write the mean of the weights of several files.

    After Wortsman et al., *Model soups*, ICML 2022, and *Robust fine-tuning of zero-shot models*,
    CVPR 2022: the mean of a model and of its fine-tuned successor can be better than both.

    Args:
        sources: two or more names or files, of the same model. Parts that some of them lack,
            such as the track head of an image model, are averaged over the others.
        dst: the .safetensors file to write, in float32, with the config of the last source, or of
            the last one with a track head, if there are any.

    Returns:
        One-line summary.

    Raises:
        InputError: fewer than two sources, one that cannot be read, models that differ in anything
            else, or tensors of different shapes.
    """
    if len(sources) < 2:
        raise InputError("give two or more files to average")
    paths = [find_weights(source) for source in sources]
    check_not_read(dst, *paths)
    loaded = [load_weights(path) for path in paths]
    configs = [config for config, _ in loaded]
    config = next((c for c in reversed(configs) if c.model.track.enabled), configs[-1])
    for path, other in zip(paths, configs, strict=True):
        if not other.model.track.enabled:
            other = replace(other, model=replace(other.model, track=config.model.track))
        check_same_model(config, other, f"weights {path}")
    states = [weights for _, weights in loaded]
    names = dict.fromkeys(name for state in states for name in state)
    mean = {name: _mean(name, states) for name in names}
    write_tensors(dst, mean, config)
    shared = sum(all(name in state for state in states) for name in names)
    return f"wrote {dst}: the mean of {len(paths)} files, {shared} of {len(names)} tensors in all"


def _mean(name: str, states: Sequence[StateDict]) -> torch.Tensor:
    """The mean of a tensor over the files that have it; integers are those of the last one."""
    found = [state[name] for state in states if name in state]
    if any(each.shape != found[0].shape for each in found):
        shapes = " and ".join(shape_text(each) for each in found)
        raise InputError(f"weights of different models: {name} is {shapes}")
    if not found[-1].is_floating_point():
        return found[-1]
    return torch.stack([each.float() for each in found]).mean(0)
