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

from queryinst_vis.models.cpu.inference_form import convs_with_norms, replace_module
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
        scale, shift = self._norm[0].scale_and_shift()
        weight = self.weight * scale[:, None, None, None]
        bias = shift if self.bias is None else shift + self.bias * scale
        padding = self.padding
        if self.pads_as_tensorflow:
            x, padding = pad_same(x, self.kernel_size, self.stride, self.dilation), 0
        if self._is_depthwise_5x5() and weight.requires_grad:
            x = x if padding == 0 else F.pad(x, (padding[1],) * 2 + (padding[0],) * 2)
            return depthwise_5x5(x, weight, bias, self.stride)
        return F.conv2d(x, weight, bias, self.stride, padding, self.dilation, self.groups)

    def _is_depthwise_5x5(self) -> bool:
        same_channels = self.groups == len(self.weight) and self.weight.shape[1] == 1
        plain = self.dilation == (1, 1) and not isinstance(self.padding, str)
        return same_channels and plain and self.kernel_size == (5, 5)


def depthwise_5x5(x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int]) -> Tensor:
    """A depthwise convolution without padding, whose weights get their gradient faster.

    oneDNN has fast kernels for the weight gradient of 3x3 depthwise convolutions only; that of
    5x5 takes up to ten times as long per weight. Four shifted 3x3 windows cover the 5x5 taps.

    Args:
        x: ``(B, C, H, W)``.
        weight: ``(C, 1, 5, 5)``.
        bias: ``(C,)``.
        stride: of rows and columns.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = (tensor.to(dtype) for tensor in (x, weight, bias))
    return _Depthwise5x5.apply(x, weight, bias, stride)


class _Depthwise5x5(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, bias, stride, groups=len(weight))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = _backward(gradient, x, weight, ctx.stride, 0)
        rows, columns = (
            (size - 1) * stride + 3
            for size, stride in zip(gradient.shape[2:], ctx.stride, strict=True)
        )
        of_weight, window = torch.empty_like(weight), weight[:, :, :3, :3].contiguous()
        for top in (0, 2):
            for left in (0, 2):
                seen = x[:, :, top : top + rows, left : left + columns]
                seen = seen.contiguous(memory_format=torch.channels_last)
                part = _backward(gradient, seen, window, ctx.stride, 1)
                of_weight[:, :, top : top + 3, left : left + 3] = part
        return of_x, of_weight, gradient.sum(dim=(0, 2, 3)), None


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: tuple[int, int], index: int
) -> Tensor:
    """Gradient of a depthwise convolution without padding for its input (0) or weight (1)."""
    wanted = [position == index for position in range(3)]
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, (0, 0), (1, 1), False, (0, 0), len(weight), wanted
    )[index]
