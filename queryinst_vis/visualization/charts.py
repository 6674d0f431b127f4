"""Charts from Vega-Lite specifications: as PNG, or interactive in a report page.

Altair builds the specifications; vl-convert renders them without a browser or network access. All
text in a chart is passed as data, so text from files is never interpreted as code.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert
from PIL import Image

from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import atomic_path

HAVE, GAIN, LOSS, PALE = "#1f9bff", "#2fbf5b", "#e8384f", "#a9d6ff"
"""Colours of values, gains and losses, and a lighter shade for second values."""

_PNG_SCALE = 1.6
_CONFIG = {
    "background": "white",
    "padding": 12,
    "title": {"anchor": "start", "fontSize": 12, "fontWeight": "normal"},
    "axis": {"grid": False, "labelLimit": 260},
    "view": {"stroke": None},
}

_DRAW = """
import sys
sys.path.pop(0)  # the working directory, whose files must not stand in for modules
import json
import vl_convert
sys.stdout.buffer.write(vl_convert.vegalite_to_png(**json.load(sys.stdin)))
"""

Chart = alt.Chart | alt.LayerChart | alt.VConcatChart | alt.HConcatChart | alt.FacetChart


def save_chart(chart: Chart, path: str | Path) -> None:
    """Write a chart as a PNG, atomically.

    vl-convert uses V8, which reserves gigabytes of address space and aborts the process if it gets
    no memory. Therefore it runs in a separate process, so that a training run cannot be aborted.

    Raises:
        InputError: the chart cannot be drawn, or the file cannot be written.
    """
    request = {
        "vl_spec": specification(chart),
        "scale": _PNG_SCALE,
        "config": _CONFIG,
        "allowed_base_urls": [],
    }
    drawn = subprocess.run(
        [sys.executable, "-c", _DRAW], input=json.dumps(request).encode(), capture_output=True
    )
    if drawn.returncode:
        lines = [line for line in drawn.stderr.decode(errors="replace").splitlines() if line[1:]]
        reason = lines[0].strip("# ") if lines else f"exit status {drawn.returncode}"
        raise InputError(f"{path}: vl-convert cannot draw the chart ({reason})")
    with atomic_path(path) as temporary, Image.open(BytesIO(drawn.stdout)) as decoded:
        # a fifth of the size, as vl-convert hardly compresses, and writes an alpha channel
        decoded.convert("RGB").save(temporary, format="png", optimize=True)


def specification(chart: Chart) -> dict[str, Any]:
    """The Vega-Lite specification of a chart, without colours of text and axes."""
    content = chart.to_dict()
    content.pop("config", None)  # Altair's default size of a view
    return content


@cache
def browser_library() -> str:
    """The JavaScript that renders specifications in a page (``window.vegaEmbed``), about 0.9 MB."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"(() => {{\n{bundle}\n}})();"


def records(rows: list[dict[str, Any]]) -> alt.InlineData:
    """Rows of a chart's data; Vega-Lite reads None as undefined."""
    return alt.InlineData(values=rows)
