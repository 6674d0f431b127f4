"""``queryinst-vis data merge``, ``filter``, ``remap`` and ``fill-masks``: edit annotation files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from queryinst_vis.cli.arguments import Commands, OutputFile, add_command, count, fraction, names
from queryinst_vis.errors import InputError


def add(tools: Commands) -> None:
    """Add the commands."""
    _add_merge(tools)
    _add_filter(tools)
    _add_remap(tools)
    _add_fill_masks(tools)


def _add_merge(tools: Commands) -> None:
    parser = add_command(
        tools,
        "merge",
        _run_merge,
        "Merge several YouTube-VIS or COCO files; classes with the same name become one.",
        "Ids are renumbered. The merged file has a single image folder: if the files have\n"
        "different folders, give each relative to a common folder with one --prefix per file.",
        "queryinst-vis data merge data/a/train.json data/b/train.json data/both.json "
        "--prefix a/train/ --prefix b/train/",
    )
    parser.add_argument("sets", type=Path, nargs="+", metavar="SET.json", help="files to merge")
    _add_out(parser)
    parser.add_argument(
        "--prefix",
        dest="prefixes",
        action="append",
        metavar="P",
        help="prefix of the file names of the first SET, the second, ...: once per SET",
    )


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", type=OutputFile, metavar="OUT.json", help="file to write")


def _run_merge(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.tools.edit import merge_sets
    from queryinst_vis.formats.annotation_set import open_set

    if len(arguments.sets) < 2:
        raise InputError("give two or more sets, and then the file to write")
    sets = [open_set(path) for path in arguments.sets]
    _write(merge_sets(sets, arguments.prefixes), arguments.target)


def _add_filter(tools: Commands) -> None:
    parser = add_command(
        tools,
        "filter",
        _run_filter,
        "Keep some classes, videos or tracks of a YouTube-VIS or COCO file.",
        "Ids are kept, so that results for the whole set can be evaluated on the part.",
        "queryinst-vis data filter train.json people.json --classes person --drop-empty",
        "queryinst-vis data filter train.json two.json --videos 0a49f5265b,0b34ec1d55",
        "queryinst-vis data filter instances.json held_out.json --videos '*3.jpg'",
    )
    add_set(parser)
    _add_out(parser)
    parser.add_argument(
        "--classes", type=names, metavar="A,B", help="keep these classes (default: all)"
    )
    parser.add_argument(
        "--videos",
        type=names,
        metavar="A,B",
        help="keep these videos or images, by name or id; * and [!3] are wildcards (default: all)",
    )
    parser.add_argument(
        "--min-length",
        type=count,
        default=0,
        metavar="N",
        help="keep tracks that are visible in at least N frames (default: all)",
    )
    parser.add_argument(
        "--drop-empty",
        action="store_true",
        help="remove videos or images without remaining annotations",
    )


def add_set(parser: argparse.ArgumentParser) -> None:
    """SET.json."""
    parser.add_argument("set", type=Path, metavar="SET.json", help="YouTube-VIS or COCO file")


def _run_filter(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.tools.edit import filter_set
    from queryinst_vis.formats.annotation_set import open_set

    part = filter_set(
        open_set(arguments.set),
        classes=arguments.classes,
        min_length=arguments.min_length,
        videos=arguments.videos,
        drop_empty=arguments.drop_empty,
    )
    _write(part, arguments.target)


def _add_remap(tools: Commands) -> None:
    parser = add_command(
        tools,
        "remap",
        _run_remap,
        "Rename or merge the classes of a YouTube-VIS or COCO file.",
        "Videos and annotations keep their ids.",
        "queryinst-vis data remap train.json vehicles.json --map car=vehicle --map bus=vehicle "
        "--drop",
    )
    add_set(parser)
    _add_out(parser)
    parser.add_argument(
        "--map",
        dest="mapping",
        type=_pair,
        action="append",
        required=True,
        metavar="OLD=NEW",
        help="rename a class; repeatable",
    )
    parser.add_argument("--drop", action="store_true", help="remove classes without a --map")


def _pair(text: str) -> tuple[str, str]:
    """OLD=NEW."""
    old, _, new = text.partition("=")
    if not old or not new:
        raise argparse.ArgumentTypeError(f"expected OLD=NEW, got '{text}'")
    return old, new


def _run_remap(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.tools.edit import remap_set
    from queryinst_vis.errors import InputError
    from queryinst_vis.formats.annotation_set import open_set

    mapping = dict(arguments.mapping)
    if len(mapping) < len(arguments.mapping):
        raise InputError("--map: a class is renamed twice; give one --map per old name")
    changed = remap_set(open_set(arguments.set), mapping, drop=arguments.drop)
    _write(changed, arguments.target)


def _add_fill_masks(tools: Commands) -> None:
    parser = add_command(
        tools,
        "fill-masks",
        _run_fill_masks,
        "Give annotations that have only a box the mask of a matching detection.",
        "For self-training with pseudo-masks: in every image, the detections and annotations of a\n"
        "class are matched one to one by the IoU of their boxes. Where annotations have masks\n"
        "already, these are kept, and the mean IoU with the matched detections is printed as an\n"
        "estimate of the quality. Detections come from 'queryinst-vis detect photos --out found'.",
        "queryinst-vis data fill-masks boxes.json found/detections.json masks.json",
    )
    parser.add_argument("set", type=Path, metavar="SET.json", help="COCO file")
    parser.add_argument(
        "detections",
        type=Path,
        metavar="DETECTIONS.json",
        help="from 'detect' on the images of SET.json, or COCO results on SET.json",
    )
    _add_out(parser)
    parser.add_argument(
        "--min-iou",
        type=fraction,
        default=0.7,
        metavar="X",
        help="minimum IoU of the boxes (default: %(default)s)",
    )


def _run_fill_masks(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.tools.fill_masks import fill_masks
    from queryinst_vis.formats.annotation_set import open_set

    content, filled = fill_masks(open_set(arguments.set), arguments.detections, arguments.min_iou)
    _write(content, arguments.target)
    print(f"filled {filled.filled} of {filled.missing} missing masks")
    if agreement := filled.agreement:
        mean = sum(agreement) / len(agreement)
        print(f"mean IoU with {len(agreement)} annotated masks: {mean:.2f}")


def _write(content: dict[str, Any], target: Path) -> None:
    from queryinst_vis.utils.files import write_json_atomically

    write_json_atomically(target, content)
    media = "videos" if "videos" in content else "images"
    counted = [media, *(["annotations"] if content.get("annotations") is not None else [])]
    counts = ", ".join(f"{len(content[name])} {name}" for name in counted)
    print(f"wrote {target}: {counts}, {len(content['categories'])} classes")
