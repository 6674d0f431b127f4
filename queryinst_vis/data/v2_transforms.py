"""Transforms of ``torchvision.transforms.v2``, built from what a config names."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torchvision.transforms import InterpolationMode, v2

from queryinst_vis.data.v2_samples import Sample, Transforms
from queryinst_vis.errors import InputError

# Lambda takes a function, which a config cannot hold.
_CLASSES = {
    name: entry
    for name, entry in vars(v2).items()
    if inspect.isclass(entry)
    and issubclass(entry, v2.Transform)
    and entry not in (v2.Transform, v2.Lambda)
}
_KEY = "input.transforms"


def build_transforms(entries: Sequence[dict[str, Any]]) -> Transforms | None:
    """Build the chain that ``input.transforms`` describes.

    An entry holds the ``name`` of a class of ``torchvision.transforms.v2``, and its arguments.
    Those of ``transforms`` (RandomApply, RandomChoice, RandomOrder, Compose) are entries as
    well, and ``interpolation`` is given by name. Nothing else can be named.

    Args:
        entries: ``input.transforms``.

    Returns:
        The chain, or None if there is no entry.

    Raises:
        InputError: an unknown class or argument (its nearest neighbour is named), or arguments
            that the class refuses.
    """
    chain = [_build(entry, f"{_KEY}[{index}]") for index, entry in enumerate(entries)]
    return _Chain(chain) if chain else None


class _Chain:
    """Transforms of a config, whose failures are the config's."""

    def __init__(self, transforms: list[v2.Transform]) -> None:
        self._transforms = transforms

    def __call__(self, sample: Sample) -> Sample:
        for index, transform in enumerate(self._transforms):
            try:
                sample = transform(sample)
            except Exception as error:  # of any kind: it depends on the class
                where = f"{_KEY}[{index}] ({type(transform).__name__})"
                raise InputError(f"{where}: fails on a sample: {_line(error)}") from error
        return sample


def _build(entry: Any, where: str) -> v2.Transform:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InputError(f"{where}: expected {{name: CLASS, argument: value, ...}}, got {entry!r}")
    name = entry["name"]
    if name not in _CLASSES:
        raise InputError(
            f"{where}: torchvision.transforms.v2 has no transform '{name}' for a config"
            f"{_nearest(name, _CLASSES)}"
        )
    known = inspect.signature(_CLASSES[name]).parameters
    arguments = {}
    for key, value in entry.items():
        if key == "name":
            continue
        if key not in known:
            raise InputError(f"{where}: {name} has no argument '{key}'{_nearest(key, known)}")
        arguments[key] = _argument(key, value, f"{where}.{key}")
    if name == "SanitizeBoundingBoxes":
        arguments.setdefault("labels_getter", _labels_and_ids)
    try:
        return _CLASSES[name](**arguments)
    except Exception as error:  # of any kind: it depends on the class
        raise InputError(f"{where}: {name} refuses its arguments: {_line(error)}") from error


def _argument(key: str, value: Any, where: str) -> Any:
    if key == "transforms" and isinstance(value, list):
        return [_build(entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    if key == "interpolation" and isinstance(value, str):
        try:
            return InterpolationMode(value)
        except ValueError as error:
            names = [mode.value for mode in InterpolationMode]
            raise InputError(f"{where}: '{value}' is none of {', '.join(names)}") from error
    return value


def _labels_and_ids(sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    return sample["labels"], sample["ids"]


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
    return f"; {hint}"


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
