"""Display of detections in notebooks."""

from __future__ import annotations

import html
import io
from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

_LONGEST_SIDE = 960  # maximum image size in pixels; notebooks store images as text
_ROWS = 20


def as_html(picture: Image.Image | None, columns: Mapping[str, np.ndarray], summary: str) -> str:
    """An image and a table as self-contained HTML.

    Args:
        picture: RGB; None: no image.
        columns: columns of the table by name, all of the same length.
        summary: alternative text of the image.
    """
    parts = (
        [] if picture is None else [f'<img alt="{html.escape(summary)}" src="{_embed(picture)}">']
    )
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    rows = list(zip(*columns.values(), strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(_text(value))}</td>' for value in row)}</tr>"
        for row in rows[:_ROWS]
    )
    parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    if len(rows) > _ROWS:
        parts.append(f"<p>and {len(rows) - _ROWS} more</p>")
    return "".join(parts)


def as_frame(page: str, height: int = 900) -> str:
    """Embed an HTML page in a notebook; its scripts are sandboxed.

    Args:
        page: a self-contained page.
        height: height of the element in pixels.
    """
    return (
        f'<iframe sandbox="allow-scripts" width="100%" height="{height}" '
        f'style="border: 0" srcdoc="{html.escape(page)}"></iframe>'
    )


def as_png(picture: Image.Image) -> bytes:
    """The image as PNG, downscaled to ``_LONGEST_SIDE``."""
    return _encode(picture, "PNG")


def _embed(picture: Image.Image) -> str:
    return f"data:image/jpeg;base64,{b64encode(_encode(picture, 'JPEG')).decode()}"


def _encode(picture: Image.Image, form: str) -> bytes:
    shown = picture.copy()
    shown.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    shown.save(buffer, form)
    return buffer.getvalue()


def _text(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
