"""H.264 encoders: x264 on the CPU, and those of graphics hardware."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple, cast

import av
from av.codec.codec import UnknownCodecError

from queryinst_vis.errors import InputError

X264 = "libx264"
AUTO = "auto"
"""The first encoder of graphics hardware that works on this machine, else ``X264``."""

_SEARCH = "me=dia:subme=1"  # 15 to 35 % less CPU time than "veryfast", files 10 % larger
_PROBE = 256  # pixels of a side: hardware refuses much smaller frames
_BT709 = 1  # of primaries, transfer and matrix alike (ITU-T H.273)
_LIMITED = 1  # FFmpeg's AVCOL_RANGE_MPEG


class Encoder(NamedTuple):
    """How one of FFmpeg's encoders is asked for constant quality.

    Attributes:
        options: FFmpeg's, for a quality on x264's scale (crf): lower is better and larger.
        pixel_format: that it takes.
    """

    options: Callable[[int], dict[str, str]]
    pixel_format: str = "yuv420p"


ENCODERS = {
    X264: Encoder(lambda crf: {"crf": f"{crf}", "preset": "veryfast", "x264-params": _SEARCH}),
    "h264_nvenc": Encoder(lambda crf: {"preset": "p4", "rc": "vbr", "cq": f"{crf}", "b": "0"}),
    "h264_qsv": Encoder(lambda crf: {"preset": "veryfast", "global_quality": f"{crf}"}, "nv12"),
    "h264_amf": Encoder(lambda crf: {"rc": "cqp", "qp_i": f"{crf}", "qp_p": f"{crf}"}, "nv12"),
    # its quality goes from 1 to 100, the best, in units of 118 (FF_QP2LAMBDA)
    "h264_videotoolbox": Encoder(
        lambda crf: {"flags": "+qscale", "global_quality": f"{118 * max(105 - 2 * crf, 1)}"}
    ),
}
"""NVIDIA's, Intel's, AMD's and Apple's hardware after x264, which makes the smallest files."""


def find_encoder(name: str) -> str:
    """The encoder of ``ENCODERS`` that a name, or ``AUTO``, means on this machine.

    Raises:
        InputError: an unknown name, or an encoder that cannot be used here.
    """
    if name == AUTO:
        hardware = (other for other in ENCODERS if other != X264)
        return next((other for other in hardware if fault_of(other) is None), X264)
    if name not in ENCODERS:
        raise InputError(f"encoder '{name}': unknown; choose from {', '.join([AUTO, *ENCODERS])}")
    if (fault := fault_of(name)) is not None:
        raise InputError(f"encoder {name}: {fault}; choose another, such as {AUTO}")
    return name


def set_up(context: av.VideoCodecContext, name: str, size: tuple[int, int]) -> None:
    """Give an encoder its frame size, pixel format and colours.

    Players take untagged HD for BT.709 and anything smaller for BT.601, so the colours are named.

    Args:
        context: of the encoder, not yet open.
        name: of ``ENCODERS``.
        size: ``(width, height)``, both even.
    """
    context.width, context.height = size
    context.pix_fmt = ENCODERS[name].pixel_format
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = _LIMITED


def fault_of(name: str) -> str | None:
    """Why an encoder cannot be used on this machine; None: it can."""
    try:
        context = cast(av.VideoCodecContext, av.CodecContext.create(name, "w"))
    except UnknownCodecError:
        return "this build of FFmpeg lacks it"
    set_up(context, name, (_PROBE, _PROBE))
    context.time_base = Fraction(1, 25)
    try:
        context.open()
    except av.FFmpegError as error:
        return f"it does not work on this machine ({error.strerror})"
    return None
