"""Evaluation output: the tables, and a progress bar for long runs."""

import io

from rich.console import Console

from queryinst_vis.evaluation.average_precision import METRICS
from queryinst_vis.evaluation.report import print_metrics
from queryinst_vis.utils.progress import ProgressBar, show_progress


def metrics_of(ap, classes):
    return {**dict.fromkeys(METRICS, -1.0), "AP": ap, "per_class_AP": classes}


def printed_rows(capsys, metrics):
    """``{first cell: other cells}`` of all tables."""
    print_metrics(metrics)
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in lines]
    return {row[0]: row[1:] for row in rows if len(row) > 1}


def test_tables_are_in_percent_with_dashes_for_undefined(capsys):
    rows = printed_rows(capsys, metrics_of(0.34567, {"person": 0.5, "[red]dog": None}))
    assert set(METRICS) < set(rows)
    assert (rows["AP"], rows["AR100"]) == (["34.6"], ["-"])
    assert (rows["person"], rows["[red]dog"]) == (["50.0"], ["-"])


def test_boxes_and_masks_are_columns(capsys):
    rows = printed_rows(
        capsys,
        {"bbox": metrics_of(0.25, {"cat": 0.5}), "segm": metrics_of(0.125, {"cat": None})},
    )
    assert (rows["AP"], rows["cat"]) == (["25.0", "12.5"], ["50.0", "-"])


def test_every_report_on_videos_names_them_and_may_list_them_worst_first(capsys):
    metrics = {
        **metrics_of(0.5, {"cat": 0.5}),
        "per_video_AP": {"easy": 0.9, "[b]none": None, "hard": 0.1},
        "videos": {"count": 3, "checksum": "0123456789ab"},
    }
    print_metrics(metrics)
    short = capsys.readouterr().out
    assert short.splitlines()[-1] == "3 videos, checksum 0123456789ab"
    assert "easy" not in short
    print_metrics(metrics, per_video=True)
    lines = capsys.readouterr().out.splitlines()
    rows = [line.strip("│").split("│") for line in lines if line.startswith("│")]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert cells[-3:] == [["hard", "10.0"], ["easy", "90.0"], ["[b]none", "-"]]
    assert lines[-1] == "3 videos, checksum 0123456789ab"


def test_a_progress_bar_appears_only_after_a_delay():
    quick, slow = (Console(file=io.StringIO(), force_terminal=True) for _ in range(2))
    assert list(show_progress([1, 2, 3], "Comparing", delay=60, console=quick)) == [1, 2, 3]
    assert list(show_progress([1, 2, 3], "Comparing", delay=0, console=slow)) == [1, 2, 3]
    assert quick.file.getvalue() == ""
    assert "Comparing" in slow.file.getvalue()


def test_without_a_terminal_steps_print_lines(capsys):
    with ProgressBar("training", total=20, done=10, line_every=5) as bar:
        for step in range(10):
            bar.advance(note=f"loss {step}")
    bar.print("done")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        ["training 15/20", "loss 4"],
        ["training 20/20", "loss 9"],
        ["done"],
    ]
    with ProgressBar("training", total=20, visible=False) as bar:
        bar.advance(20)
        bar.print("done")
    assert capsys.readouterr().err == ""


def test_byte_progress_leaves_one_line(capsys):
    with ProgressBar("people.safetensors", total=2_000_000, unit="bytes") as bar:
        bar.advance(2_000_000)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "people.safetensors" in line and "2.0/2.0 MB" in line
