"""``queryinst-vis data ...``: validate, summarise, split, browse and edit annotation files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from queryinst_vis.cli import data_browse, data_edit
from queryinst_vis.cli.arguments import Commands, OutputFile, add_command, fraction
from queryinst_vis.cli.datasets import SUMMARY as CONVERT_SUMMARY
from queryinst_vis.cli.datasets import add_datasets

if TYPE_CHECKING:
    from queryinst_vis.data.tools.statistics import VideoStatistics
    from queryinst_vis.formats.annotation_set import AnnotationSet


def add(commands: Commands) -> None:
    """Add ``data`` with its own commands."""
    summary = "Validate, summarise, split, browse, merge, filter, rename and convert annotations."
    parser = commands.add_parser("data", help=summary, description=summary, allow_abbrev=False)
    tools = parser.add_subparsers(title="tools", metavar="TOOL", required=True)
    _add_validate(tools)
    _add_stats(tools)
    _add_split(tools)
    data_browse.add(tools)
    data_edit.add(tools)
    add_datasets(
        tools.add_parser(
            "convert", help=CONVERT_SUMMARY, description=CONVERT_SUMMARY, allow_abbrev=False
        )
    )


def _add_validate(tools: Commands) -> None:
    parser = add_command(
        tools,
        "validate",
        _run_validate,
        "Check a YouTube-VIS or COCO file for all known problems.",
        "Prints a table of findings by kind, with the first occurrences of each. Errors cause\n"
        "exit status 2: the file would be rejected or evaluated incorrectly. Warnings and notes\n"
        "do not change it. --images reads every frame; docs/data.md explains the findings.",
        "queryinst-vis data validate train.json --images train/JPEGImages",
        "queryinst-vis data validate val.json --results results.json --json findings.json",
    )
    data_edit.add_set(parser)
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="also read the images in this folder"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="also check this result file, like check-submission",
    )
    parser.add_argument(
        "--json", type=OutputFile, metavar="OUT", help="also write all findings as JSON"
    )


def _run_validate(arguments: argparse.Namespace) -> None:
    from queryinst_vis.cli.findings import report_findings
    from queryinst_vis.data.tools.results_checks import check_submission
    from queryinst_vis.data.tools.validate import validate_set
    from queryinst_vis.formats.annotation_set import parse_set
    from queryinst_vis.formats.findings import ignore
    from queryinst_vis.formats.reading import read_annotations

    found = {arguments.set: validate_set(arguments.set, arguments.images)}
    if arguments.results is not None:
        # problems of the set itself are already reported above
        usable = parse_set(read_annotations(arguments.set), ignore)
        found[arguments.results] = check_submission(arguments.results, usable)
    report_findings(found, arguments.json)


def _add_stats(tools: Commands) -> None:
    parser = add_command(
        tools,
        "stats",
        _run_stats,
        "Summarise a YouTube-VIS or COCO file: classes, lengths, sizes, motion, occlusion.",
        "Crowds are excluded. Sizes use the area ranges of the metric (YouTube-VIS: bounds 128^2\n"
        "and 256^2 pixels; COCO: 32^2 and 96^2); motion is the displacement of the box centre\n"
        "between frames, relative to the box size; occlusion is the fraction of the total box\n"
        "area in a frame that is covered by two or more boxes.",
        "queryinst-vis data stats train.json --json stats.json --plots out/train_plots",
    )
    data_edit.add_set(parser)
    parser.add_argument(
        "--json", type=OutputFile, metavar="OUT", help="also write the statistics as JSON"
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="also write plots as PNG files")


def _run_stats(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.tools.statistics import measure_set, summarise_set
    from queryinst_vis.formats.annotation_set import open_set
    from queryinst_vis.utils.files import files_together, write_json_atomically

    annotation_set = open_set(arguments.set)
    videos = measure_set(annotation_set)
    summary = summarise_set(videos, annotation_set.kind)
    with files_together():
        if arguments.json is not None:
            write_json_atomically(arguments.json, summary)
        if arguments.plots is not None:
            _draw_stats(videos, annotation_set.kind, arguments.plots)
    _print_stats(summary, annotation_set.kind)
    if arguments.plots is not None:
        print(f"wrote {arguments.plots}/*.png")


def _print_stats(summary: dict, kind: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    right = [Column(name, justify="right") for name in ("min", "median", "mean", "max")]
    spreads = Table("", *right)
    totals = Table("", Column("", justify="right"), show_header=False)
    for name, value in summary.items():
        label = name.replace("_", " ")
        if name in ("classes", "sizes"):
            continue
        if isinstance(value, dict):
            spreads.add_row(label, *(f"{number:.3g}" for number in value.values()))
        elif value is not None:
            totals.add_row(label, str(value))
    totals.add_row("frame sizes", ", ".join(list(summary["sizes"])[:4]))
    counted = [Column(name, justify="right") for name in ("tracks", "masks", f"{kind}s")]
    classes = Table("class", *counted)
    for name, counts in summary["classes"].items():
        classes.add_row(escape(name), *map(str, counts.values()))
    console = Console()
    for table in (classes, totals, spreads):
        console.print(table)


def _draw_stats(videos: list[VideoStatistics], kind: str, folder: Path) -> None:
    from queryinst_vis.data.tools.statistics import SIZE_BOUNDS, summarise_set
    from queryinst_vis.visualization.dataset_plots import draw_bars, draw_histogram

    tracks = [track for video in videos for track in video.tracks]
    classes = {
        name: counts["tracks"] for name, counts in summarise_set(videos, kind)["classes"].items()
    }
    draw_bars(classes, "Tracks per class", "tracks", folder / "classes.png")
    low, high = (bound**0.5 for bound in SIZE_BOUNDS[kind])
    draw_histogram(
        [track.area**0.5 for track in tracks],
        "Size of tracks: square root of the mean mask area",
        "pixels",
        "tracks",
        folder / "sizes.png",
        marks={"medium above": low, "large above": high},
    )
    steps = [step for track in tracks for step in track.motion]
    objects = [count for video in videos for count in video.objects]
    rates = [rate for video in videos for rate in video.overlap]
    overlap = "Occlusion: fraction of the box area covered by two or more boxes"
    draw_histogram(
        objects, "Visible objects per frame", "objects", "frames", folder / "objects.png"
    )
    draw_histogram(rates, overlap, "fraction", "frames", folder / "occlusion.png")
    if kind == "video":
        lengths = [video.length for video in videos]
        track_lengths = [track.frames for track in tracks]
        motion = "Motion between frames, relative to the object's size"
        draw_histogram(
            lengths, "Length of videos", "frames", "videos", folder / "video_lengths.png"
        )
        draw_histogram(
            track_lengths, "Length of tracks", "frames", "tracks", folder / "track_lengths.png"
        )
        draw_histogram(steps, motion, "object sizes", "steps", folder / "motion.png", limit=2.0)


def _add_split(tools: Commands) -> None:
    parser = add_command(
        tools,
        "split",
        _run_split,
        "Make a deterministic train/val split by video name.",
        "The split depends on a hash of the video names only, not on ids or file order. Clips\n"
        "of one sequence (one folder of frames) stay together, and every class is in both parts\n"
        "where possible. The same command on the same set always gives the same split; its\n"
        "checksums are printed and stored in `info.split` of both files.",
        "queryinst-vis data split train.json fit.json held_out.json --fraction 0.1",
    )
    data_edit.add_set(parser)
    parser.add_argument(
        "large", type=OutputFile, metavar="OUT_A.json", help="the larger part (train)"
    )
    parser.add_argument(
        "small", type=OutputFile, metavar="OUT_B.json", help="the held-out part (val)"
    )
    parser.add_argument(
        "--fraction",
        type=fraction,
        default=0.1,
        metavar="F",
        help="fraction of the set that goes to OUT_B, 0 < F < 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--salt",
        default="",
        metavar="TEXT",
        help="salt of the hash; changes the split (default: none)",
    )


def _run_split(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.tools.split import split_set
    from queryinst_vis.formats.annotation_set import open_set
    from queryinst_vis.utils.files import files_together, write_json_atomically

    annotation_set = open_set(arguments.set)
    large, small = split_set(annotation_set, arguments.fraction, arguments.salt)
    by_path = {arguments.large: large, arguments.small: small}
    with files_together():
        for path, part in by_path.items():
            write_json_atomically(path, part)
    _print_split(annotation_set, by_path)


def _print_split(annotation_set: AnnotationSet, parts: dict[Path, dict]) -> None:
    from collections import Counter

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    kind = annotation_set.kind
    table = Table("", *(Column(escape(path.name), justify="right") for path in parts))
    table.add_row("checksum", *(part["info"]["split"]["checksum"] for part in parts.values()))
    table.add_row(f"{kind}s", *(str(len(part[f"{kind}s"])) for part in parts.values()))
    counts = [
        Counter(entry["category_id"] for entry in part.get("annotations") or [])
        for part in parts.values()
    ]
    for identity, name in annotation_set.categories.items():
        if any(count[identity] for count in counts):
            table.add_row(escape(name), *(str(count[identity]) for count in counts))
    Console().print(table)
    print(f"wrote {' and '.join(map(str, parts))}")
