"""The form of a model that trains on a CPU: the same losses and gradients from less work.

A frozen batch norm is an affine map, so it folds into the convolution before it, with gradient for
both. Parameters keep their names: states and weights of either form load into the other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from queryinst_vis.models.inference_form import convs_with_norms, replace_module
from queryinst_vis.models.queryinst import QueryInst


def to_training_form(model: QueryInst) -> QueryInst:
    """Fold the backbone's frozen batch norms, and store convolutions channels last.

    Args:
        model: changed in place and left in evaluation mode. Batch norms that are being trained
            (``model.backbone.norm_eval=false``) stay as they are.
    """
    model.eval()  # looking for the pairs must not move running statistics
    if model.backbone.norm_eval:
        for conv_name, norm_name in list(convs_with_norms(model)):
            if norm_name.startswith("backbone."):
                _fold(model, conv_name, norm_name)
    return model.to(memory_format=torch.channels_last)


def _fold(model: QueryInst, conv_name: str, norm_name: str) -> None:
    norm = FoldedNorm(model.get_submodule(norm_name))
    replace_module(model, norm_name, norm)
    replace_module(model, conv_name, FoldedConv(model.get_submodule(conv_name), norm))


class FoldedNorm(nn.Module):
    """What is left of a batch norm that a convolution computes: its tensors and activation.

    Args:
        norm: frozen; timm's hold the activation that follows.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        for name, buffer in norm.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self.act = getattr(norm, "act", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """The activation alone."""
        return self.act(x)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The affine map, ``(C,)`` each."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


class FoldedConv(nn.Module):
    """A convolution that also does what the frozen batch norm behind it would.

    Under autocast, depthwise convolutions stay in float32: the gradient of their weights takes
    several times as long in bfloat16.

    Args:
        conv: a plain convolution, or timm's with TensorFlow's padding.
        norm: reads the result of this convolution only.
    """

    def __init__(self, conv: nn.Conv2d, norm: FoldedNorm) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.padding = conv.stride, conv.padding
        self.dilation, self.groups = conv.dilation, conv.groups
        self.kernel_size = conv.kernel_size
        self.pads_as_tensorflow = isinstance(conv, Conv2dSame)
        self._norm = (norm,)  # in a tuple: its tensors belong to another name

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the norm's result, before its activation."""
        if self.groups < len(self.weight):
            return self._convolve(x)
        with torch.autocast(x.device.type, enabled=False):  # depthwise
            return self._convolve(x.float())

    def _convolve(self, x: Tensor) -> Tensor:
        scale, shift = self._norm[0].scale_and_shift()
        weight = self.weight * scale[:, None, None, None]
        bias = shift if self.bias is None else shift + self.bias * scale
        padding = self.padding
        if self.pads_as_tensorflow:
            x, padding = pad_same(x, self.kernel_size, self.stride, self.dilation), 0
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)
