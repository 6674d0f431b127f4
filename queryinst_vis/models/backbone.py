"""Any timm model with feature maps as the backbone."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from queryinst_vis.errors import InputError

STRIDES = (4, 8, 16, 32)


class Backbone(nn.Module):
    """Feature maps at strides 4, 8, 16 and 32 of a timm model.

    Args:
        name: timm model name.
        frozen_stages: the stem and this many stages get no gradient (0: all is trained).
        norm_eval: batch norms use their running statistics even in training mode, since the
            batches of detectors are too small to estimate their own.
        pretrained: let timm fetch its published ImageNet weights. Only ever set by an explicit
            request of the user, never by a config file.

    Raises:
        InputError: timm does not know the model, or it lacks one of the strides.
    """

    def __init__(
        self,
        name: str,
        frozen_stages: int = 1,
        norm_eval: bool = True,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.body = timm.create_model(
            name, features_only=True, out_indices=_level_indices(name), pretrained=pretrained
        )
        self.channels: list[int] = self.body.feature_info.channels()
        self.norm_eval = norm_eval
        if frozen_stages:
            self._freeze(self.body.feature_info.module_name()[frozen_stages - 1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` images to four maps ``(B, C_l, H / s, W / s)``."""
        return [
            # Swin and its kin give channels last
            level if level.shape[1] == channels else level.permute(0, 3, 1, 2)
            for level, channels in zip(self.body(images), self.channels, strict=True)
        ]

    def train(self, mode: bool = True) -> Backbone:
        """As usual, but batch norms stay in evaluation mode where ``norm_eval`` asks for it."""
        super().train(mode)
        if self.norm_eval:
            for module in self.body.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def _freeze(self, last_module: str) -> None:
        """Stop gradients in every module up to the end of ``last_module``."""
        reached = False
        for name, parameter in self.body.named_parameters():
            inside = name.startswith(last_module + ".")
            if reached and not inside:
                return
            reached = inside
            parameter.requires_grad_(False)


def _level_indices(name: str) -> list[int]:
    """Positions of the wanted strides among the feature maps of a timm model."""
    try:
        with torch.device("meta"):
            reductions = timm.create_model(name, features_only=True).feature_info.reduction()
    except (RuntimeError, AttributeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"model.backbone.name '{name}': timm cannot build it ({reason})"
        ) from error
    missing = [stride for stride in STRIDES if stride not in reductions]
    if missing:
        raise InputError(
            f"model.backbone.name '{name}': has no feature maps at strides {missing}; "
            f"it offers {reductions}, {list(STRIDES)} are needed"
        )
    return [reductions.index(stride) for stride in STRIDES]
