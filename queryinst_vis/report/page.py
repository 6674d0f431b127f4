"""Self-contained HTML pages: opened from disk, without network requests or foreign scripts.

Templates in ``templates/`` escape all values, since class names, paths and titles come from
untrusted files. Scripts and the style sheet in ``assets/`` are embedded in the page. Its
Content-Security-Policy allows exactly these scripts, by their hashes, and no requests.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from queryinst_vis import __version__
from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import atomic_path
from queryinst_vis.visualization.charts import Chart, browser_library, specification

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; media-src data: blob:; "
    "base-uri 'none'; form-action 'none'; script-src {hashes}"
)

SIZE_LIMIT = 15_000_000
"""Default maximum size of a page in bytes, about the limit of e-mail attachments."""


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: heading.
        show: converts a value to text; None for columns of text.
    """

    title: str
    show: Callable[[Any], str] | None = None


class Table(NamedTuple):
    """A table that can be sorted by clicking a heading, and filtered by a word.

    Attributes:
        columns: from left to right.
        rows: one value per column. Values of columns with ``show`` are numbers, which are used for
            sorting, or None, which is sorted last.
        note: text below the table.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    note: str = ""


def render_page(
    template: str,
    title: str,
    context: Mapping[str, Any],
    scripts: Sequence[str] = (),
    charts: Mapping[str, Chart] | None = None,
) -> str:
    """Render a page to HTML.

    Args:
        template: a file of ``templates/`` that extends ``base.html.j2``.
        title: title of the page.
        context: variables of the template. ``data``, if given, is embedded as JSON for scripts to
            read with ``pageData()``. It may contain untrusted text, but no NaN.
        scripts: files of ``assets/``, in the order of execution. ``page.js``, which sorts and
            filters tables, always runs first.
        charts: charts by the name that the template passes to ``chart_of``.

    Raises:
        ValueError: ``data`` cannot be represented as JSON.
    """
    sources = [Markup(asset(name)) for name in ("page.js", *scripts)]
    if charts:
        sources += [Markup(_script(browser_library())), Markup(asset("charts.js"))]
    specifications = {name: specification(chart) for name, chart in (charts or {}).items()}
    hashes = " ".join(f"'sha256-{_sha256(source)}'" for source in sources)
    values = {"data": None, **context}
    return (
        page_environment()
        .get_template(template)
        .render(
            values,
            charts=specifications,
            title=title,
            version=__version__,
            policy=_POLICY.format(hashes=hashes),
            style=Markup(asset("page.css")),
            scripts=sources,
        )
    )


def write_page(path: str | Path, html: str, size_limit: int = SIZE_LIMIT) -> None:
    """Write a page, completely or not at all.

    Raises:
        InputError: the page exceeds ``size_limit`` bytes, or the file cannot be written.
    """
    content = html.encode("utf-8", "backslashreplace")  # a file name may contain any bytes
    if len(content) > size_limit:
        raise InputError(
            f"report {path}: its size of {len(content) / 1e6:.1f} MB exceeds the limit of "
            f"{size_limit / 1e6:g} MB; show fewer or smaller pictures"
        )
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def data_uri(content: bytes, media_type: str) -> str:
    """The content of a file as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


@cache
def asset(name: str) -> str:
    """A script or style sheet of ``assets/``, for embedding in an HTML element.

    Raises:
        ValueError: it contains an end tag.
    """
    return _script(
        files("queryinst_vis.report").joinpath("assets", name).read_text(encoding="utf-8")
    )


def _script(text: str) -> str:
    if "</script" in text.lower() or "</style" in text.lower():
        raise ValueError("a script or style sheet contains an end tag, which would truncate it")
    return text


@cache
def page_environment() -> Environment:
    """The Jinja environment: text is escaped, and undefined variables are errors."""
    environment = Environment(
        loader=PackageLoader("queryinst_vis.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
