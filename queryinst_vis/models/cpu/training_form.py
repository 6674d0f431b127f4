"""The training form of a model for CPUs: the same losses and gradients with less computation.

A frozen batch norm is an affine map, so it can be folded into the preceding convolution, with
gradients for both. Parameter names do not change: checkpoints of either form load into the other.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from queryinst_vis.models.cpu.forms import Forms, replace_roi_align
from queryinst_vis.models.folding import find_convs_with_norms
from queryinst_vis.models.queryinst import QueryInst


def to_training_form(model: QueryInst, forms: Forms = Forms()) -> QueryInst:  # noqa: B008 (frozen)
    """Replace modules by equivalents that train faster on a CPU, in channels-last memory format.

    Args:
        model: on a CPU; changed in place and left in evaluation mode. Batch norms that are
            trained (``model.backbone.norm_eval=false``) are not folded.
        forms: the replacements to use.
    """
    model.eval()  # the probe run must not change running statistics
    if forms.fold_norms and model.backbone.norm_eval:
        for pair in find_convs_with_norms(model):
            if pair.norm_name.startswith("backbone."):
                norm = FoldedNorm(pair.norm)
                model.set_submodule(pair.norm_name, norm)
                model.set_submodule(pair.conv_name, FoldedConv(pair.conv, norm))
    if forms.roi_align:
        replace_roi_align(model)
    return model.to(memory_format=torch.channels_last)


class FoldedNorm(nn.Module):
    """The remainder of a batch norm that is folded into a convolution: tensors and activation.

    Args:
        norm: frozen; timm's batch norms include the activation.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        for name, buffer in norm.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self.act = getattr(norm, "act", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation only."""
        return self.act(x)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """The affine map of the batch norm, ``(C,)`` each."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


class FoldedConv(nn.Module):
    """A convolution that includes the frozen batch norm after it.

    Args:
        conv: a plain convolution, or timm's with TensorFlow's padding.
        norm: the batch norm; this convolution is its only input.
    """

    def __init__(self, conv: nn.Conv2d, norm: FoldedNorm) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.padding = conv.stride, conv.padding
        self.dilation, self.groups = conv.dilation, conv.groups
        self.kernel_size = conv.kernel_size
        self.pads_as_tensorflow = isinstance(conv, Conv2dSame)
        self._norm = (norm,)  # a tuple, since its parameters are registered elsewhere already

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to the output of the batch norm, before its activation."""
        scale, shift = self._norm[0].scale_and_shift()
        weight = self.weight * scale[:, None, None, None]
        bias = shift if self.bias is None else shift + self.bias * scale
        padding = self.padding
        if self.pads_as_tensorflow:
            x = pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation))
            padding = (0, 0)
        if self._is_depthwise_5x5() and weight.requires_grad and not isinstance(padding, str):
            x = x if not any(padding) else F.pad(x, (padding[1],) * 2 + (padding[0],) * 2)
            return depthwise_5x5(x, weight, bias, self.stride)
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)

    def _is_depthwise_5x5(self) -> bool:
        same_channels = self.groups == len(self.weight) and self.weight.shape[1] == 1
        return same_channels and self.dilation == (1, 1) and self.kernel_size == (5, 5)


def depthwise_5x5(x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, ...]) -> Tensor:
    """A depthwise convolution without padding, whose weight gradient is computed faster.

    oneDNN has fast kernels for the weight gradient of 3x3 depthwise convolutions only; 5x5 takes
    up to ten times as long per weight. Four shifted 3x3 windows cover the 5x5 taps.

    Args:
        x: ``(B, C, H, W)``.
        weight: ``(C, 1, 5, 5)``.
        bias: ``(C,)``.
        stride: (vertical, horizontal).
    """
    if not convolution_backward_works():
        return F.conv2d(x, weight, bias, stride, groups=len(weight))
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = (tensor.to(dtype) for tensor in (x, weight, bias))
    return _Depthwise5x5.apply(x, weight, bias, stride)


@cache
def convolution_backward_works() -> bool:
    """Whether PyTorch's ``convolution_backward`` works as expected, determined by a test call.

    Its signature is not part of PyTorch's documented interface.
    """
    ones = torch.ones(1, 1, 3, 3)
    try:
        gradient = _backward(torch.full((1, 1, 1, 1), 2.0), ones, ones, (1, 1), 1)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(gradient, 2 * ones)


class _Depthwise5x5(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, bias, stride, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = _backward(gradient, x, weight, ctx.stride, 0)
        rows, columns = (
            (size - 1) * stride + 3
            for size, stride in zip(gradient.shape[2:], ctx.stride, strict=True)
        )
        weight_gradient, window = torch.empty_like(weight), weight[:, :, :3, :3].contiguous()
        for top in (0, 2):
            for left in (0, 2):
                crop = x[:, :, top : top + rows, left : left + columns]
                crop = crop.contiguous(memory_format=torch.channels_last)
                part = _backward(gradient, crop, window, ctx.stride, 1)
                weight_gradient[:, :, top : top + 3, left : left + 3] = part
        return x_gradient, weight_gradient, gradient.sum(dim=(0, 2, 3)), None


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, ...], index: int
) -> Tensor:
    """Gradient of an unpadded depthwise convolution with respect to input (0) or weight (1)."""
    mask = [position == index for position in range(3)]
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, (0, 0), (1, 1), False, (0, 0), len(weight), mask
    )[index]
