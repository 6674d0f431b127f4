"""Detection of truncated JPEG files (ITU-T T.81, annex B)."""

from __future__ import annotations

import io
import re
from collections import defaultdict

from PIL import Image

_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
_SCAN, _END_CODE = 0xDA, 0xD9
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15, which list the components
_SEGMENTS = _FRAMES | {0xC4, 0xC8, 0xCC, *range(0xDA, 0xF0), 0xFE}
"""Codes of markers with a length field."""
_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")
"""End of the compressed data of a scan, in which FF occurs only before 00 or a restart marker."""
_JUNK = [bytes(factor * n % 255 for n in range(1, 255)) for factor in (37, 101, 193)]
"""Data that no decoder interprets as the end of a scan or as more of the same grey."""
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}


def is_jpeg(data: bytes) -> bool:
    """Whether a file's bytes begin as those of a JPEG file."""
    return data.startswith(_START)


def is_truncated(data: bytes) -> bool:
    """Whether pixels of a JPEG file are missing, which decoders silently fill with grey.

    Data after the end of the image, such as the video of a motion photo, are ignored. A file
    without the end marker may be complete.
    """
    if data.endswith(JPEG_END):  # possibly of a thumbnail, but then there is no scan to decode
        return False
    seen: dict[int, set[int]] = defaultdict(set)
    components: set[int] = set()
    progressive, position = False, len(_START)
    while match := _NEXT_MARKER.search(data, position):
        code = match[1][0]
        if code == _END_CODE:
            return False
        length = int.from_bytes(data[match.end() : match.end() + 2], "big")
        body = data[match.end() + 2 : match.end() + length]
        if code not in _SEGMENTS or len(body) != length - 2:
            return True
        if code in _FRAMES:
            components = set(body[6::3])
            progressive = code in _PROGRESSIVE
        elif code == _SCAN:
            for component, band in _scan_parts(body, progressive):
                seen[component] |= band
        position = match.end() + length
    complete = bool(components) and all(
        seen[component] >= set(range(64 if progressive else 1)) for component in components
    )
    return not complete or _is_incomplete(data)


def _scan_parts(body: bytes, progressive: bool) -> list[tuple[int, set[int]]]:
    """The components of a scan, each with the coefficients completed by it."""
    count = body[0] if body else 0
    first, last, bits = body[1 + 2 * count : 4 + 2 * count].ljust(3, b"\xff")
    is_final = not progressive or bits & 15 == 0
    band = set(range(first, last + 1)) if is_final else set()
    return [(component, band) for component in body[1 : 1 + 2 * count : 2]]


def _is_incomplete(data: bytes) -> bool:
    """Whether a decoder interprets data after ``data`` as pixels, i.e. the scan is incomplete."""
    data = data.rstrip(b"\xff")  # half of a marker, or of an escaped FF
    ended = _decode(data + JPEG_END)
    restarts = [b"\xff" + bytes([code]) + _JUNK[0] for code in range(0xD0, 0xD8)]
    return ended is None or any(
        _decode(data + more + JPEG_END) != ended for more in _JUNK + restarts
    )


def _decode(data: bytes) -> bytes | None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.tobytes()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
