"""``queryinst-vis convert-dataset``: one sub-command a format."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import Commands, Parser, add_command
from queryinst_vis.cli.rendered import add_coco_video, add_synthetic

SUMMARY = "Bring a dataset into YouTube-VIS, COCO or MOTS format, or render a synthetic one."


def add(commands: Commands) -> None:
    """Add ``convert-dataset``."""
    parser = commands.add_parser(
        "convert-dataset", help=SUMMARY, description=SUMMARY, allow_abbrev=False
    )
    add_datasets(parser)


def add_datasets(parser: Parser) -> None:
    """Add one sub-command a format to ``parser``, to which 'data convert' lends itself too."""
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


def _add_youtube_vis(datasets: Commands) -> None:
    parser = add_command(
        datasets,
        "youtube-vis",
        _run_youtube_vis,
        "YouTube-VIS, OVIS and their relatives to one strict YouTube-VIS JSON file.",
        "Masks become compressed RLE, empty ones null; boxes, areas and lengths are filled in;\n"
        "annotation ids become unique. Other keys, as OVIS' occlusion levels, stay.\n"
        "Frames stay in place.",
        "queryinst-vis convert-dataset youtube-vis data/ovis/annotations_train.json "
        "work/ovis_train.json",
    )
    parser.add_argument("source", type=Path, metavar="SRC.json", help="annotation file to read")
    _add_target(parser)
    _add_coco(parser)


def _run_youtube_vis(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.convert import convert_youtube_vis

    print(convert_youtube_vis(arguments.source, arguments.target, coco_json=arguments.coco))


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", type=Path, metavar="DST.json", help="annotation file to write")


def _add_coco(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--coco", type=Path, metavar="FILE", help="also write the frames as a COCO image set"
    )


def _add_mots(datasets: Commands) -> None:
    parser = add_command(
        datasets,
        "mots",
        _run_mots,
        "MOTSChallenge or KITTI MOTS instance maps to a YouTube-VIS JSON file.",
        "Reads SRC/images/SEQUENCE/*.jpg and SRC/instances/SEQUENCE/*.png; images stay in place.",
        "queryinst-vis convert-dataset mots data/mots work/mots_val.json --start 0.75 "
        "--clip-length 36",
    )
    parser.add_argument(
        "source", type=Path, metavar="SRC", help="folder with images/ and instances/"
    )
    _add_target(parser)
    parser.add_argument(
        "--start",
        type=float,
        default=0.0,
        metavar="F",
        help="where in each sequence to begin, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--end",
        type=float,
        default=1.0,
        metavar="F",
        help="where in each sequence to end, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--clip-length", type=int, metavar="N", help="cut sequences into videos of N frames"
    )
    parser.add_argument(
        "--sequence",
        dest="sequences",
        action="append",
        metavar="NAME",
        help="convert this sequence; may be given several times (default: all sequences)",
    )
    _add_coco(parser)
    parser.add_argument(
        "--from",
        dest="form",
        choices=["png", "txt"],
        help="read SRC/instances/*.png or SRC/instances_txt/*.txt (default: png where it exists)",
    )


def _run_mots(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.convert import convert_mots

    line = convert_mots(
        arguments.source,
        arguments.target,
        start=arguments.start,
        end=arguments.end,
        clip_length=arguments.clip_length,
        coco_json=arguments.coco,
        source=arguments.form,
        sequences=arguments.sequences,
    )
    print(line)


def _add_to_mots(datasets: Commands) -> None:
    parser = add_command(
        datasets,
        "to-mots",
        _run_to_mots,
        "YouTube-VIS ground truth to a MOTS folder: the way back.",
        "Writes DST/instances/SEQUENCE/*.png, uint16 class * 1000 + number, with car 1 and person\n"
        "(or pedestrian) 2; crowds become 10000, the region to ignore. Where masks overlap, the\n"
        "smaller one keeps the pixel; the line at the end counts what was lost.",
        "queryinst-vis convert-dataset to-mots work/mots_val.json work/mots --images "
        "data/mots/images",
        "queryinst-vis convert-dataset to-mots gt.json work/kitti --form txt --class truck=car "
        "--class dog=none",
    )
    parser.add_argument("source", type=Path, metavar="SRC.json", help="annotation file to read")
    parser.add_argument("target", type=Path, metavar="DST", help="folder to write, new or empty")
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
        help="the frames' folder: copy them to DST/images, so that 'mots' can read DST",
    )
    parser.add_argument(
        "--class",
        dest="classes",
        type=_class_choice,
        action="append",
        default=[],
        metavar="NAME=KIND",
        help="what another class becomes: car, person, ignore (a region) or none (left out)",
    )


def _class_choice(text: str) -> tuple[str, str]:
    """NAME=KIND."""
    name, equals, kind = text.rpartition("=")
    if not (name and equals and kind):
        raise argparse.ArgumentTypeError(f"expected NAME=KIND such as truck=car, got '{text}'")
    return name, kind


def _run_to_mots(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.convert import convert_to_mots

    line = convert_to_mots(
        arguments.source,
        arguments.target,
        form=arguments.form,
        images=arguments.images,
        classes=dict(arguments.classes),
    )
    print(line)


def _add_davis(datasets: Commands) -> None:
    parser = add_command(
        datasets,
        "davis",
        _run_davis,
        "DAVIS or YouTube-VOS folders (palette PNGs) to a YouTube-VIS JSON file.",
        "Reads SRC/JPEGImages/480p/SEQUENCE/*.jpg and SRC/Annotations/480p/SEQUENCE/*.png, or the\n"
        "same without 480p. A PNG's indices are object ids: 0 is background, 255 void, which\n"
        "becomes iscrowd. Frames without a PNG are left out; images stay in place.",
        "queryinst-vis convert-dataset davis data/DAVIS work/davis_val.json --sequences "
        "data/DAVIS/ImageSets/2017/val.txt",
        "queryinst-vis convert-dataset davis data/vos/train work/vos.json --meta "
        "data/vos/train/meta.json",
    )
    parser.add_argument(
        "source", type=Path, metavar="SRC", help="folder with JPEGImages/ and Annotations/"
    )
    _add_target(parser)
    parser.add_argument(
        "--annotations",
        default="Annotations",
        metavar="NAME",
        help="folder of the PNGs, e.g. Annotations_unsupervised (default: %(default)s)",
    )
    parser.add_argument(
        "--resolution", metavar="NAME", help="folder between, e.g. 480p, where there are several"
    )
    parser.add_argument(
        "--sequences",
        type=Path,
        metavar="FILE",
        help="text file: the sequences to take, one a line",
    )
    parser.add_argument(
        "--meta",
        type=Path,
        metavar="FILE",
        help="YouTube-VOS' meta.json with classes (default: all objects are of class 'object')",
    )


def _run_davis(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.convert import convert_davis

    line = convert_davis(
        arguments.source,
        arguments.target,
        annotations=arguments.annotations,
        resolution=arguments.resolution,
        sequences=arguments.sequences,
        meta=arguments.meta,
    )
    print(line)


def _add_labelme(datasets: Commands) -> None:
    parser = add_command(
        datasets,
        "labelme",
        _run_labelme,
        "labelme's files, one a frame, to a YouTube-VIS JSON file.",
        "Reads SRC/VIDEO/FRAME.json. Shapes of one label and group_id are one instance; a shape\n"
        "without group_id is the video's only one of its label. Images stay in place.",
        "queryinst-vis convert-dataset labelme data/my_videos work/my_videos.json",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="folder of video folders")
    _add_target(parser)


def _run_labelme(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.convert import convert_labelme

    print(convert_labelme(arguments.source, arguments.target))


def _add_cvat(datasets: Commands) -> None:
    parser = add_command(
        datasets,
        "cvat",
        _run_cvat,
        'Exports of "CVAT for video 1.1" to a YouTube-VIS JSON file.',
        "Reads SRC/VIDEO/annotations.xml and SRC/VIDEO/images/*, as unzipped. Polygons, masks,\n"
        "boxes and ellipses of a track are its masks. Images stay in place.",
        "queryinst-vis convert-dataset cvat data/cvat_exports work/mine.json",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="folder of unzipped exports")
    _add_target(parser)
    parser.add_argument(
        "--by-group",
        action="store_true",
        help="tracks of one label and group_id are one instance (for masks, which CVAT exports as "
        "tracks of one frame)",
    )


def _run_cvat(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.convert import convert_cvat

    print(convert_cvat(arguments.source, arguments.target, by_group=arguments.by_group))


def _add_cityscapes(datasets: Commands) -> None:
    parser = add_command(
        datasets,
        "cityscapes",
        _run_cityscapes,
        "Cityscapes instance maps of one split to a COCO JSON file.",
        "Reads SRC/CITY/*_gtFine_instanceIds.png; file names are relative to leftImg8bit/SPLIT.",
        "queryinst-vis convert-dataset cityscapes data/cityscapes/gtFine/val "
        "data/cityscapes/annotations/instances_val.json",
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="a split, e.g. gtFine/train")
    _add_target(parser)


def _run_cityscapes(arguments: argparse.Namespace) -> None:
    from queryinst_vis.data.convert import convert_cityscapes

    print(convert_cityscapes(arguments.source, arguments.target))
