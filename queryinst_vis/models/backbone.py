"""Backbones: timm models with feature maps, or models of installed packages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor, nn

from queryinst_vis.errors import InputError
from queryinst_vis.models.deformable import make_deformable
from queryinst_vis.models.installed_backbone import create_installed

# excludes names with a source, such as hf-hub:... or local-dir:...
_PLAIN_NAME = re.compile(r"\w[\w.-]*")


class Backbone(nn.Module):
    """A timm model, or one of an installed package, with feature maps at strides 4, 8, 16 and 32.

    Args:
        name: a timm model, or an entry point in the group ``queryinst_vis.backbones``.
        frozen_stages: freeze the stem and this many stages (0: train everything).
        norm_eval: use the running statistics of batch norms even in training mode, since
            detection batches are too small to estimate them.
        drop_path: stochastic depth rate of the last block (0..1).
        deformable_stages: stages (2 to 4) with deformable 3x3 convolutions (ResNets).
        pretrained: download ImageNet weights with timm; torchvision's, as in the paper, if
            available and ``name`` has no tag. Set only at the user's explicit request, never by a
            config file. Not supported for backbones of other packages.

    Models with channels-last outputs (Swin) get a LayerNorm at every level, as in mmdetection,
    because their stages end without one.

    Raises:
        InputError: the model is unknown, lacks one of the strides, cannot be built with
            stochastic depth or deformable convolutions, or its weights cannot be downloaded.
    """

    body: nn.Module
    channels: list[int]
    norms: nn.ModuleList

    def __init__(
        self,
        name: str,
        frozen_stages: int = 1,
        norm_eval: bool = True,
        pretrained: bool = False,
        drop_path: float = 0.0,
        deformable_stages: Sequence[int] = (),
    ) -> None:
        import timm

        super().__init__()
        if not _PLAIN_NAME.fullmatch(name):
            raise InputError(
                f"model.backbone.name '{name}': must be the plain name of a timm model, such as "
                "resnet50; names with a source are not allowed"
            )
        self.norm_eval = norm_eval
        self.can_freeze = True
        if timm.is_model(name):
            self._create_timm(name, frozen_stages, pretrained, drop_path)
        else:
            self.norms = nn.ModuleList()
            self.body, self.channels = create_installed(name, frozen_stages, pretrained, drop_path)
        for stage in deformable_stages:
            make_deformable(self.body, stage, name)

    def _create_timm(
        self, name: str, frozen_stages: int, pretrained: bool, drop_path: float
    ) -> None:
        from queryinst_vis.models.timm_body import create_body, feature_info, is_channels_last

        self.body = create_body(name, drop_path, pretrained)
        info = feature_info(self.body)
        self.channels = info.channels()
        widths = self.channels if is_channels_last(self.body) else []
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        if frozen_stages:
            self._freeze(info.module_name()[frozen_stages - 1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map ``(B, 3, H, W)`` images to four feature maps ``(B, C_l, H / s, W / s)``."""
        levels = self.body(images)
        if self.norms:
            return [
                norm(level).permute(0, 3, 1, 2)
                for norm, level in zip(self.norms, levels, strict=True)
            ]
        return levels

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; frozen batch norms, and with ``norm_eval`` all, stay in evaluation mode."""
        super().train(mode)
        for module in self.body.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
                self.norm_eval or _is_frozen(module)
            ):
                module.eval()
        return self

    def _freeze(self, last_module: str) -> None:
        """Freeze all parameters up to and including ``last_module``, if there are any of it."""
        # timm flattens a.b to a_b when it rebuilds a model as a list of modules
        prefixes = (f"{last_module}.", f"{last_module.replace('.', '_')}.")
        frozen, is_reached = [], False
        for name, parameter in self.body.named_parameters():
            is_inside = name.startswith(prefixes)
            if is_reached and not is_inside:
                break
            is_reached = is_inside
            frozen.append(parameter)
        self.can_freeze = is_reached
        for parameter in frozen if is_reached else []:
            parameter.requires_grad_(False)


def _is_frozen(norm: nn.Module) -> bool:
    parameters = list(norm.parameters(recurse=False))
    return bool(parameters) and not any(each.requires_grad for each in parameters)
