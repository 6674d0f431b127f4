"""``queryinst-vis convert-dataset``: one sub-command per format."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from queryinst_vis.cli.arguments import Commands, OutputFile, Parser, add_allow_outside, add_command
from queryinst_vis.cli.rendered import add_coco_video, add_synthetic

SUMMARY = "Convert a data set to YouTube-VIS, COCO or MOTS format, or render a synthetic one."


def add(commands: Commands) -> None:
    """Add ``convert-dataset``."""
    parser = commands.add_parser(
        "convert-dataset", help=SUMMARY, description=SUMMARY, allow_abbrev=False
    )
    add_datasets(parser)


def add_datasets(parser: Parser) -> None:
    """Add one sub-command per format to ``parser``; also used by 'data convert'."""
    datasets = parser.add_subparsers(title="datasets", metavar="DATASET", required=True)
    _add_youtube_vis(datasets)
    _add_mots(datasets)
    _add_to_mots(datasets)
    _add_davis(datasets)
    _add_labelme(datasets)
    _add_cvat(datasets)
    _add_cityscapes(datasets)
    add_coco_video(datasets)
    add_synthetic(datasets)
    parser.complete = partial(_add_installed, datasets)


def _add_converter(
    datasets: Commands,
    name: str,
    converter: str,
    source: tuple[str, str],
    summary: str,
    details: str,
    *examples: str,
    target: tuple[str, str] = ("DST.json", "annotation file to write"),
) -> Parser:
    """Add a sub-command that calls a function of ``data.convert`` with its arguments.

    Args:
        datasets: the sub-commands.
        name: name of the sub-command.
        converter: name of the function; each of its parameters is the ``dest`` of an argument.
        source, target: metavar and help of the input and output.
        summary, details: as for ``add_command``.
        examples: command lines without ``queryinst-vis convert-dataset NAME``.
    """
    command = f"queryinst-vis convert-dataset {name} "
    parser = add_command(
        datasets, name, _convert, summary, details, *(command + words for words in examples)
    )
    parser.set_defaults(converter=converter)
    parser.add_argument("src", type=Path, metavar=source[0], help=source[1])
    parser.add_argument("dst", type=OutputFile, metavar=target[0], help=target[1])
    return parser


def _convert(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data import convert

    print_result(getattr(convert, arguments.converter), arguments)


def print_result(function: Callable[..., str], arguments: argparse.Namespace) -> None:
    """Call a function with the arguments named like its parameters, and print the result."""
    parameters = inspect.signature(function).parameters
    print(function(**{name: getattr(arguments, name) for name in parameters}))


class AddItem(argparse.Action):
    """Collects the ``(key, value)`` pairs of a repeatable option in a dict."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add a pair."""
        key, value = values
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), key: value})


def _add_youtube_vis(datasets: Commands) -> None:
    parser = _add_converter(
        datasets,
        "youtube-vis",
        "convert_youtube_vis",
        ("SRC.json", "annotation file to read"),
        "Normalise a file in YouTube-VIS format or a variant of it, such as OVIS.",
        "Masks become compressed RLE, empty ones null; boxes, areas and lengths are filled in;\n"
        "annotation ids are made unique. Other keys, such as OVIS occlusion levels, are kept.\n"
        "Images stay in place.",
        "data/ovis/annotations_train.json work/ovis_train.json",
    )
    _add_coco(parser)


def _add_coco(parser: Parser) -> None:
    parser.add_argument(
        "--coco",
        dest="coco_json",
        type=OutputFile,
        metavar="FILE",
        help="also write the frames as a COCO image set",
    )


def _add_mots(datasets: Commands) -> None:
    parser = _add_converter(
        datasets,
        "mots",
        "convert_mots",
        ("SRC", "folder with images/ and instances/"),
        "Convert MOTSChallenge or KITTI MOTS instance maps to YouTube-VIS JSON.",
        "Reads SRC/images/SEQUENCE/*.jpg and SRC/instances/SEQUENCE/*.png; images stay in place.",
        "data/mots work/mots_val.json --start 0.75 --clip-length 36",
    )
    for end, default, verb in (("start", 0.0, "begin"), ("end", 1.0, "end")):
        parser.add_argument(
            f"--{end}",
            type=float,
            default=default,
            metavar="F",
            help=f"{verb} at this fraction of each sequence, 0 to 1 (default: %(default)s)",
        )
    parser.add_argument(
        "--clip-length", type=int, metavar="N", help="cut sequences into videos of N frames"
    )
    parser.add_argument(
        "--sequence",
        dest="sequences",
        action="append",
        metavar="NAME",
        help="convert only this sequence; repeatable (default: all)",
    )
    _add_coco(parser)
    parser.add_argument(
        "--from",
        dest="source",
        choices=["png", "txt"],
        help="read SRC/instances/*.png or SRC/instances_txt/*.txt (default: png if present)",
    )


def _add_to_mots(datasets: Commands) -> None:
    parser = _add_converter(
        datasets,
        "to-mots",
        "convert_to_mots",
        ("SRC.json", "annotation file to read"),
        "Convert YouTube-VIS ground truth to a MOTS folder.",
        "Writes DST/instances/SEQUENCE/*.png, uint16 class * 1000 + number, with car 1 and person\n"
        "(or pedestrian) 2; crowds become the ignore region 10000. Where masks overlap, the\n"
        "smaller one keeps the pixels; the number of lost pixels and masks is printed.",
        "work/mots_val.json work/mots --images data/mots/images",
        "gt.json work/kitti --form txt --class truck=car --class dog=none",
        target=("DST", "folder to write, new or empty"),
    )
    parser.add_argument(
        "--form",
        choices=["png", "txt"],
        default="png",
        help="instance maps, or instances_txt/SEQUENCE.txt (default: %(default)s)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the frames: copy them to DST/images, so that 'mots' can read DST",
    )
    add_allow_outside(parser)
    parser.add_argument(
        "--class",
        dest="classes",
        type=_class_choice,
        action=AddItem,
        default={},
        metavar="NAME=KIND",
        help="map another class to car, person, ignore (an ignore region) or none (dropped)",
    )


def _class_choice(text: str) -> tuple[str, str]:
    """NAME=KIND."""
    name, equals, kind = text.rpartition("=")
    if not (name and equals and kind):
        raise argparse.ArgumentTypeError(f"expected NAME=KIND such as truck=car, got '{text}'")
    return name, kind


def _add_davis(datasets: Commands) -> None:
    parser = _add_converter(
        datasets,
        "davis",
        "convert_davis",
        ("SRC", "folder with JPEGImages/ and Annotations/"),
        "Convert DAVIS or YouTube-VOS folders (palette PNGs) to YouTube-VIS JSON.",
        "Reads SRC/JPEGImages/480p/SEQUENCE/*.jpg and SRC/Annotations/480p/SEQUENCE/*.png, or the\n"
        "same without 480p. Palette indices are object ids: 0 is background, 255 void, which\n"
        "becomes iscrowd. Frames without a PNG are skipped; images stay in place.",
        "data/DAVIS work/davis_val.json --sequences data/DAVIS/ImageSets/2017/val.txt",
        "data/vos/train work/vos.json --meta data/vos/train/meta.json",
    )
    parser.add_argument(
        "--annotations",
        default="Annotations",
        metavar="NAME",
        help="folder of the PNGs, e.g. Annotations_unsupervised (default: %(default)s)",
    )
    parser.add_argument(
        "--resolution", metavar="NAME", help="resolution folder, e.g. 480p, if there are several"
    )
    parser.add_argument(
        "--sequences",
        type=Path,
        metavar="FILE",
        help="text file with the sequences to convert, one per line",
    )
    parser.add_argument(
        "--meta",
        type=Path,
        metavar="FILE",
        help="meta.json of YouTube-VOS with classes (default: all objects are of class 'object')",
    )


def _add_labelme(datasets: Commands) -> None:
    _add_converter(
        datasets,
        "labelme",
        "convert_labelme",
        ("SRC", "folder of video folders"),
        "Convert labelme files, one per frame, to YouTube-VIS JSON.",
        "Reads SRC/VIDEO/FRAME.json. Shapes with the same label and group_id are one instance; a\n"
        "shape without group_id is the only instance of its label in the video. Images stay in\n"
        "place.",
        "data/my_videos work/my_videos.json",
    )


def _add_cvat(datasets: Commands) -> None:
    parser = _add_converter(
        datasets,
        "cvat",
        "convert_cvat",
        ("SRC", "folder of unzipped exports"),
        'Convert exports in "CVAT for video 1.1" format to YouTube-VIS JSON.',
        "Reads the unzipped SRC/VIDEO/annotations.xml and SRC/VIDEO/images/*. Polygons, masks,\n"
        "boxes and ellipses of a track become its masks. Images stay in place.",
        "data/cvat_exports work/mine.json",
    )
    parser.add_argument(
        "--by-group",
        action="store_true",
        help="treat tracks with the same label and group_id as one instance (for masks, which CVAT "
        "exports as single-frame tracks)",
    )


def _add_cityscapes(datasets: Commands) -> None:
    _add_converter(
        datasets,
        "cityscapes",
        "convert_cityscapes",
        ("SRC", "a split, e.g. gtFine/train"),
        "Convert the Cityscapes instance maps of one split to a COCO JSON file.",
        "Reads SRC/CITY/*_gtFine_instanceIds.png; file names are relative to leftImg8bit/SPLIT.",
        "data/cityscapes/gtFine/val data/cityscapes/annotations/instances_val.json",
    )


def _add_installed(datasets: Commands) -> None:
    """Add the formats of installed packages, except for names that are built in."""
    from queryinst_vis.utils.plugins import DATASET_FORMATS, installed

    for name in installed(DATASET_FORMATS):
        if name in datasets.choices:
            continue
        parser = _add_converter(
            datasets,
            name,
            "convert_installed",
            ("SRC", "source in the format of the package"),
            "Convert a format of an installed package to YouTube-VIS JSON.",
            "Registered by an entry point in queryinst_vis.dataset_formats.",
            "data/mine work/mine.json --coco work/mine_coco.json",
        )
        parser.set_defaults(name=name)
        _add_coco(parser)
