"""Any timm model with feature maps as the backbone, or one of an installed package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.layers import Format
from timm.models import FeatureInfo
from torch import Tensor, nn

from queryinst_vis.errors import InputError
from queryinst_vis.models.deformable import make_deformable
from queryinst_vis.models.installed_backbone import STRIDES, create_installed
from queryinst_vis.utils.hub import asking_the_hub

_PLAIN_NAME = re.compile(
    r"\w[\w.-]*"
)  # no source in front of it, as in hf-hub:... or local-dir:...
# Swin and its kin: any input size, and shifted windows at every level whatever the size
ANY_SIZE = {"strict_img_size": False, "always_partition": True}


class Backbone(nn.Module):
    """Feature maps at strides 4, 8, 16 and 32 of a timm model, or of an installed package's.

    Args:
        name: of a timm model, or else of an entry point of ``queryinst_vis.backbones``.
        frozen_stages: the stem and this many stages get no gradient (0: all is trained).
        norm_eval: batch norms use their running statistics even in training mode, since the
            batches of detectors are too small to estimate their own.
        drop_path: stochastic depth, the rate of the last block (0..1).
        deformable_stages: of 2 to 4, whose 3x3 convolutions become deformable (ResNets).
        pretrained: let timm fetch published ImageNet weights: torchvision's, which the paper
            starts from, where it has them and ``name`` has no tag of its own. Only ever set by
            an explicit request of the user, never by a config file. Not for other packages'
            backbones.

    Models that give channels last (Swin) get a LayerNorm at every level, as in mmdetection:
    their stages end without one.

    Raises:
        InputError: nobody knows the model, it lacks one of the strides, it cannot be built with
            stochastic depth or deformable convolutions, or its weights cannot be fetched.
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
        super().__init__()
        if not _PLAIN_NAME.fullmatch(name):
            raise InputError(
                f"model.backbone.name '{name}': must be the plain name of a timm model, such as "
                "resnet50; nothing is fetched from an address or read from a folder"
            )
        self.norm_eval = norm_eval
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
        self.body = _create_body(name, drop_path, pretrained)
        info = _feature_info(self.body)
        self.channels = info.channels()
        is_channels_last = getattr(self.body, "output_fmt", Format.NCHW) == Format.NHWC
        self.norms = nn.ModuleList(
            nn.LayerNorm(channels) for channels in self.channels if is_channels_last
        )
        if frozen_stages:
            self._freeze(info.module_name()[frozen_stages - 1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` images to four maps ``(B, C_l, H / s, W / s)``."""
        levels = self.body(images)
        if self.norms:
            return [
                norm(level).permute(0, 3, 1, 2)
                for norm, level in zip(self.norms, levels, strict=True)
            ]
        return levels

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
        # timm flattens a.b to a_b where it rebuilds a model as a list of modules
        prefixes = (f"{last_module}.", f"{last_module.replace('.', '_')}.")
        reached = False
        for name, parameter in self.body.named_parameters():
            inside = name.startswith(prefixes)
            if reached and not inside:
                return
            reached = inside
            parameter.requires_grad_(False)


def _create_body(name: str, drop_path: float, pretrained: bool) -> nn.Module:
    options: dict[str, Any] = dict(ANY_SIZE) if name.startswith("swin") else {}
    if drop_path:
        options["drop_path_rate"] = drop_path
    options["out_indices"] = _level_indices(name, options)
    if not pretrained:
        return timm.create_model(name, features_only=True, **options)
    name = _weights_of_the_paper(name)
    if not timm.is_model_pretrained(name):
        raise InputError(f"model.backbone.name '{name}': timm has no pretrained weights of it")
    with asking_the_hub(f"pretrained weights of {name}"):
        return timm.create_model(name, features_only=True, pretrained=True, **options)


def _feature_info(model: nn.Module) -> FeatureInfo:
    """What timm says about the feature maps of a model that was built with ``features_only``."""
    info = model.feature_info
    if not isinstance(info, FeatureInfo):
        raise TypeError(f"expected the FeatureInfo of timm, got {type(info).__name__}")
    return info


def _weights_of_the_paper(name: str) -> str:
    """A timm name with the tag of torchvision's weights, where there are any.

    timm's own choice for ResNets are longer trained ones, of another recipe for each depth.
    """
    tagged = f"{name}.tv_in1k"
    return tagged if timm.is_model_pretrained(tagged) else name


def _level_indices(name: str, options: dict[str, Any]) -> list[int]:
    """Positions of the wanted strides among the feature maps of a timm model."""
    try:
        with torch.device("meta"):
            model = timm.create_model(name, features_only=True, **options)
    except (RuntimeError, AttributeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"model.backbone.name '{name}': timm cannot build it ({reason})"
        ) from error
    reductions = _feature_info(model).reduction()
    missing = [stride for stride in STRIDES if stride not in reductions]
    if missing:
        raise InputError(
            f"model.backbone.name '{name}': has no feature maps at strides {missing}; "
            f"it offers {reductions}, {list(STRIDES)} are needed"
        )
    return [reductions.index(stride) for stride in STRIDES]
