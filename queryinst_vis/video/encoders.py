"""H.264 encoders: x264 on the CPU, and hardware encoders."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple, cast

import av
from av.codec.codec import UnknownCodecError

from queryinst_vis.errors import InputError

X264 = "libx264"
AUTO = "auto"
"""The first hardware encoder that works on this machine, otherwise ``X264``."""

_SEARCH = "me=dia:subme=1"  # 15 to 35 % less CPU time than "veryfast", files 10 % larger
_PROBE = 256  # side of the test frame in pixels: hardware rejects much smaller frames
_BT709 = 1  # for primaries, transfer and matrix (ITU-T H.273)
_LIMITED = 1  # FFmpeg's AVCOL_RANGE_MPEG


class Encoder(NamedTuple):
    """Settings of an FFmpeg encoder for constant quality.

    Attributes:
        options: FFmpeg options for a quality on x264's scale (crf; lower is better).
        pixel_format: required pixel format.
    """

    options: Callable[[int], dict[str, str]]
    pixel_format: str = "yuv420p"


ENCODERS = {
    X264: Encoder(lambda crf: {"crf": f"{crf}", "preset": "veryfast", "x264-params": _SEARCH}),
    "h264_nvenc": Encoder(lambda crf: {"preset": "p4", "rc": "vbr", "cq": f"{crf}", "b": "0"}),
    "h264_qsv": Encoder(lambda crf: {"preset": "veryfast", "global_quality": f"{crf}"}, "nv12"),
    "h264_amf": Encoder(lambda crf: {"rc": "cqp", "qp_i": f"{crf}", "qp_p": f"{crf}"}, "nv12"),
    # quality 1 to 100 (best), in units of 118 (FF_QP2LAMBDA)
    "h264_videotoolbox": Encoder(
        lambda crf: {"flags": "+qscale", "global_quality": f"{118 * max(105 - 2 * crf, 1)}"}
    ),
}
"""x264, with the smallest files, and the hardware encoders of NVIDIA, Intel, AMD and Apple."""


def find_encoder(name: str, size: tuple[int, int] = (_PROBE, _PROBE)) -> str:
    """Resolve ``AUTO`` for this machine; other names are checked and returned.

    Args:
        name: ``AUTO`` or a key of ``ENCODERS``.
        size: ``(width, height)`` of the video, both even; hardware encoders have limits.

    Raises:
        InputError: an unknown name, or an encoder that does not work on this machine.
    """
    if name == AUTO:
        hardware = (other for other in ENCODERS if other != X264)
        return next((other for other in hardware if fault_of(other, size) is None), X264)
    if name not in ENCODERS:
        raise InputError(f"encoder '{name}': unknown; choose from {', '.join([AUTO, *ENCODERS])}")
    if (fault := fault_of(name, size)) is not None:
        raise InputError(f"encoder {name}: {fault}; choose another, such as {AUTO}")
    return name


def set_up(context: av.VideoCodecContext, name: str, size: tuple[int, int]) -> None:
    """Set frame size, pixel format and colour tags of an encoder.

    Without tags, players assume BT.709 for HD and BT.601 for smaller videos.

    Args:
        context: context of the encoder, not yet open.
        name: a key of ``ENCODERS``.
        size: ``(width, height)``, both even.
    """
    context.width, context.height = size
    context.pix_fmt = ENCODERS[name].pixel_format
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = _LIMITED


def fault_of(name: str, size: tuple[int, int]) -> str | None:
    """Why an encoder does not encode this ``(width, height)`` on this machine; None if it does."""
    try:
        context = cast(av.VideoCodecContext, av.CodecContext.create(name, "w"))
    except UnknownCodecError:
        return "not included in this build of FFmpeg"
    set_up(context, name, size)
    context.time_base = Fraction(1, 25)
    try:
        context.open()
    except av.FFmpegError as error:
        width, height = size
        return f"it does not encode {width}x{height} pixels on this machine ({error.strerror})"
    return None
