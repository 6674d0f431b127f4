"""Optimiser, parameter groups and learning-rate schedule."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from queryinst_vis.checkpoints.training_state import Moments
from queryinst_vis.config import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of the update from ``step`` to ``step + 1``.

    Linear warm-up from ``warmup_factor * lr`` over ``warmup_steps``, and decay by ``lr_gamma`` at
    every milestone in ``lr_steps``. A pure function, so that resuming needs no scheduler state.
    """
    decay = config.lr_gamma ** sum(step >= milestone for milestone in config.lr_steps)
    warmup = 1.0
    if step < config.warmup_steps:
        progress = step / config.warmup_steps
        warmup = config.warmup_factor + (1 - config.warmup_factor) * progress
    return config.lr * decay * warmup


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Parameter groups: backbone and heads, with and without weight decay.

    Each group has ``lr_multiplier``, its factor on ``learning_rate``, and its ``weight_decay``;
    empty groups are omitted.
    """
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = defaultdict(list)
    for part, multiplier in (("backbone", config.backbone_lr_multiplier), ("heads", 1.0)):
        for name, value in model.named_parameters():
            if value.requires_grad and name.startswith("backbone.") == (part == "backbone"):
                decay = config.weight_decay if _decays(name, value, config) else 0.0
                groups[part, multiplier, decay].append(value)
    return [
        {"params": values, "lr_multiplier": multiplier, "weight_decay": decay}
        for (_, multiplier, decay), values in groups.items()
    ]


def _decays(name: str, value: nn.Parameter, config: TrainConfig) -> bool:
    """Whether weight decay applies; Swin excludes norms, biases and position embeddings."""
    exempt = value.dim() <= 1 or "position" in name or "pos_embed" in name
    return config.decay_norms or not exempt


def build_optimizer(model: nn.Module, config: TrainConfig) -> AdamW:
    """AdamW with the recipe's parameter groups; as published, all have the same weight decay."""
    groups = parameter_groups(model, config)
    # the fused kernel if available, otherwise PyTorch's default
    fused = all(value.device.type in ("cpu", "cuda") for value in model.parameters())
    return AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=fused or None)


def moments_by_name(optimizer: Optimizer, model: nn.Module) -> Moments:
    """The optimiser state by parameter name.

    The optimiser indexes parameters in the order of its groups, which depends on settings that a
    resumed run may change.
    """
    state = optimizer.state_dict()["state"]
    names = _names_in_order(optimizer, model)
    return {names[index]: moments for index, moments in state.items()}


def load_moments(optimizer: Optimizer, model: nn.Module, moments: Moments) -> None:
    """Restore saved moments; other optimiser settings do not change.

    Parameters without saved moments, which were frozen, start from zero.
    """
    names = _names_in_order(optimizer, model)
    state = {index: moments[name] for index, name in enumerate(names) if name in moments}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _names_in_order(optimizer: Optimizer, model: nn.Module) -> list[str]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[value] for group in optimizer.param_groups for value in group["params"]]


def set_learning_rate(optimizer: Optimizer, step: int, config: TrainConfig) -> float:
    """Set the learning rate of every group for the next update; returns that of the heads."""
    rate = learning_rate(step, config)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_multiplier"]
    return rate
