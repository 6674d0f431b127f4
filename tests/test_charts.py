"""Charts: one specification for PNG and HTML, rendered without browser or network."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import pytest

from queryinst_vis.errors import InputError
from queryinst_vis.visualization.charts import browser_library, save_chart, specification
from queryinst_vis.visualization.curves import curve_charts
from queryinst_vis.visualization.dataset_plots import bar_chart, histogram

HOSTILE = "</script><script>alert(1)</script>"


def rows_of(chart):
    return list(specification(chart)["datasets"].values())


def test_a_chart_is_rendered_to_a_picture(tmp_path):
    save_chart(bar_chart({HOSTILE: 3, "dog": 5}, "Tracks", "tracks"), tmp_path / "chart.png")
    assert cv2.imread(str(tmp_path / "chart.png")).std() > 1


@pytest.mark.skipif(sys.platform != "linux", reason="limits on addresses are Linux'")
def test_running_out_of_memory_while_rendering_ends_in_one_line(tmp_path):
    code = """
import resource, sys
from queryinst_vis.errors import InputError
from queryinst_vis.visualization.charts import save_chart
from queryinst_vis.visualization.dataset_plots import bar_chart
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # the child's as well
try:
    save_chart(bar_chart({"dog": 5}, "Tracks", "tracks"), sys.argv[1])
except InputError as error:
    print(error)
"""
    words = [sys.executable, "-c", code, str(tmp_path / "chart.png")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1
    assert "chart.png: vl-convert cannot draw the chart" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_chart_that_cannot_be_written_leaves_no_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*chart\.png"):
        save_chart(bar_chart({"dog": 5}, "Tracks", "tracks"), tmp_path / "file" / "chart.png")
    assert os.listdir(tmp_path) == ["file"]


def test_a_chart_specification_sets_no_text_colours():
    assert "config" not in specification(bar_chart({"dog": 5}, "Tracks", "tracks"))


def test_the_embedded_chart_library_is_identified_and_cannot_close_its_script():
    library = browser_library()
    assert "window.vegaEmbed" in library and "</script" not in library.lower()


def test_a_narrow_integer_range_gets_one_bin_per_value_with_outliers_in_the_last():
    bins, marks = rows_of(histogram([1, 1, 2, 9], "Objects", "objects", "frames", limit=4))
    assert [(row["low"], row["count"]) for row in bins] == [(0.5, 2), (1.5, 1), (2.5, 0), (3.5, 1)]
    assert marks == [{"name": "median", "at": 1.5}]


def test_a_histogram_without_values_is_empty(tmp_path):
    save_chart(histogram([], "Objects", "objects", "frames"), tmp_path / "chart.png")
    assert (tmp_path / "chart.png").exists()


def test_long_curves_are_subsampled_and_non_finite_values_dropped():
    curve = [(step, 1.0) for step in range(5000)] + [(5000, float("nan"))]
    ((rows,),) = [rows_of(chart) for chart in curve_charts({"loss": curve}).values()]
    assert 500 < len(rows) <= 1000
    assert all(row["value"] == 1.0 for row in rows)
