"""Record of each start of a training run, for its report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from lightning.fabric import Fabric

from queryinst_vis.config import Config, differences
from queryinst_vis.config.environment import is_unresolved
from queryinst_vis.formats.run_file import fingerprint
from queryinst_vis.utils.machine import code_version, device_name, system_name

_LIBRARIES = ("torch", "torchvision", "timm", "lightning")


class BaseConfig(NamedTuple):
    """The config of a run before overrides, and its file or name."""

    name: str
    config: Config


def describe_start(
    fabric: Fabric,
    config: Config,
    base: BaseConfig | None,
    step: int,
    notes: Sequence[str],
) -> dict[str, Any]:
    """An entry of ``starts.jsonl``.

    Args:
        fabric: launched.
        config: effective config of the run.
        base: config before overrides; None if unknown.
        step: number of updates before this start.
        notes: messages about the weights and the schedule.

    Returns:
        ``step``, ``time`` (UTC, ISO 8601), ``seed``; ``weights``: their path or name and
        ``fingerprint``; ``base``: its ``name`` and ``changed``, ``{key: [value, value of the
        base]}``, or None; ``environment``; ``notes``.
    """
    weights = config.train.init_weights or config.model.backbone.weights
    changed = {} if base is None else differences(config, base.config)
    return {
        "step": step,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": config.seed,
        "weights": {
            "name": weights,
            "fingerprint": None
            if weights is None or is_unresolved(weights)
            else fingerprint(Path(weights)),
        },
        "base": None
        if base is None
        else {"name": base.name, "changed": {key: list(pair) for key, pair in changed.items()}},
        "environment": {
            "device": f"{fabric.device}, {device_name(fabric.device)}",
            "processes": fabric.world_size,
            "precision": config.train.precision,
            "system": system_name(),
            "code": code_version(),
            "versions": {name: version(name) for name in _LIBRARIES},
        },
        "notes": list(notes),
    }
