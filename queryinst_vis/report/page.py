"""A page as one HTML file: it opens from disk, asks no network, and runs no foreign script.

Templates lie in ``templates/`` and escape whatever they are given: class names, paths and titles
come from other people's files. Scripts and the style sheet lie in ``assets/`` and are copied into
the page. Its Content-Security-Policy allows exactly those scripts, by their hashes, and not a
single request.
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
"""Bytes that a page stays below unless the user allows more; mail systems take about that."""


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: its heading.
        show: the text of a value; None for columns of text, which show it as it is.
    """

    title: str
    show: Callable[[Any], str] | None = None


class Table(NamedTuple):
    """A table that readers sort by a click on a heading and filter by a word.

    Attributes:
        columns: from left to right.
        rows: one value per column each. Values of columns with ``show`` are numbers, by which
            they are sorted, or None, which comes last.
        note: a sentence beneath.
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
    """The HTML of a page.

    Args:
        template: a file of ``templates/`` that extends ``base.html.j2``.
        title: of the page; any text.
        context: what the template refers to. ``data``, where given, is embedded as JSON, and
            scripts read it with ``pageData()``. It may hold text from anywhere, but no NaN.
        scripts: of ``assets/``, in the order in which they run. ``page.js``, which sorts and
            filters tables, always runs first.
        charts: by the name under which the template places them with ``chart_of``.

    Raises:
        ValueError: ``data`` cannot be written as JSON.
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
    """Write a page, all of it or nothing.

    Raises:
        InputError: the page exceeds ``size_limit`` bytes, or the file cannot be written.
    """
    content = html.encode()
    if len(content) > size_limit:
        raise InputError(
            f"report {path}: would take {len(content) / 1e6:.1f} MB, more than the "
            f"{size_limit / 1e6:g} MB allowed; show fewer or smaller pictures"
        )
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def data_uri(content: bytes, media_type: str) -> str:
    """A file's content as an address that a page carries in itself."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


@cache
def asset(name: str) -> str:
    """A script or style sheet of ``assets/``, as it may stand inside of an HTML element.

    Raises:
        ValueError: it holds the end tag of such an element.
    """
    return _script(
        files("queryinst_vis.report").joinpath("assets", name).read_text(encoding="utf-8")
    )


def _script(text: str) -> str:
    if "</script" in text.lower() or "</style" in text.lower():
        raise ValueError("a script or style sheet holds an end tag, which would end it early")
    return text


@cache
def page_environment() -> Environment:
    """What templates are rendered with: text is escaped, and unknown names are errors."""
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
