"""MOTS (MOTSChallenge, KITTI MOTS) to YouTube-VIS, from instance maps or text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from queryinst_vis.data.convert.builder import (
    LabelledTrack,
    LabelledVideo,
    build_video_set,
    check_two_names,
    write_video_set,
)
from queryinst_vis.data.convert.images import (
    check_same_size,
    image_files,
    image_size,
    masks_by_index,
    read_instance_map,
    subfolders,
)
from queryinst_vis.errors import InputError
from queryinst_vis.formats.mots import (
    CLASS_NAMES,
    IDS_PER_CLASS,
    IGNORE_CLASS,
    FrameMasks,
    read_mots_text,
)
from queryinst_vis.utils.progress import show_progress


def convert_mots(
    src: str | Path,
    dst: str | Path,
    *,
    start: float = 0.0,
    end: float = 1.0,
    clip_length: int | None = None,
    coco_json: str | Path | None = None,
    source: str | None = None,
    sequences: Collection[str] | None = None,
) -> str:
    """Write the sequences of a MOTS folder as one YouTube-VIS annotation file.

    Expects ``SRC/images/SEQUENCE/NUMBER.jpg`` (or .png) and, for each sequence, either instance
    maps ``SRC/instances/SEQUENCE/NUMBER.png`` or text ``SRC/instances_txt/SEQUENCE.txt``
    (``frame id class height width rle`` per line). File names are relative to ``SRC/images``,
    which stays in place. Ignore regions become ``iscrowd`` annotations of class person.

    Args:
        src: the MOTS folder.
        dst: annotation file to write.
        start, end: the part of every sequence to convert, as fractions of its frames, e.g.
            0.75 and 1 for the last quarter.
        clip_length: cut each part into videos of this many frames (the last may be shorter).
        coco_json: also write the same frames as a COCO image set to this file.
        source: ``"png"`` or ``"txt"``; None: instance maps if present.
        sequences: names of the sequences to convert; None: all.

    Returns:
        One-line summary.

    Raises:
        InputError: missing folders, an unknown sequence, a frame without instance map, an
            invalid map or line (with file and line number), masks of a frame without image,
            different sizes, nothing to convert.
    """
    src = Path(src)
    _check(start, end, clip_length, source)
    check_two_names(dst, coco_json)
    videos = []
    for name in show_progress(_sequences(src / "images", sequences), "reading MOTS"):
        everything = _frame_files(src / "images" / name)
        files = everything[round(start * len(everything)) : round(end * len(everything))]
        masks = _read_masks(src, name, files, source)
        strays = masks.keys() - {int(file.stem) for file in everything}
        if strays:
            raise InputError(
                f"sequence {name}: there are masks of frame {min(strays)}, but no such image in "
                f"{everything[0].parent}; do the frames of both count from the same number?"
            )
        step = clip_length or max(len(files), 1)
        for first in range(0, len(files), step):
            videos.append(_clip(name, files[first : first + step], masks))
    if not videos:
        raise InputError(f"{src}: no sequence has frames between {start:g} and {end:g}")
    description = f"MOTS, frames {start:g} to {end:g} of each sequence"
    video_set = build_video_set(videos, description, CLASS_NAMES)
    return write_video_set(dst, video_set, coco_json=coco_json)


def _check(start: float, end: float, clip_length: int | None, source: str | None) -> None:
    if not 0 <= start < end <= 1:
        raise InputError(f"part {start:g} to {end:g}: expected 0 <= start < end <= 1")
    if clip_length is not None and clip_length < 1:
        raise InputError(f"clip length {clip_length}: must be at least 1 frame")
    if source not in (None, "png", "txt"):
        raise InputError(f"MOTS source '{source}': choose png or txt")


def _sequences(images: Path, selected: Collection[str] | None) -> list[str]:
    names = [folder.name for folder in subfolders(images, "sequence")]
    if selected is None:
        return names
    unknown = sorted(set(selected) - set(names))
    if unknown or not selected:
        fault = f"no sequence '{unknown[0]}'" if unknown else "no sequence is selected"
        raise InputError(f"{images}: {fault}; choose from: {', '.join(names)}")
    return [name for name in names if name in selected]


def _frame_files(folder: Path) -> list[Path]:
    """Image files in numerical order."""
    files = image_files(folder)
    strays = [file for file in files if not file.stem.isdecimal()]
    if strays:
        raise InputError(f"{strays[0]}: MOTS frames must be named by their number, e.g. 000001.jpg")
    if not files:
        raise InputError(f"{folder}: contains no image files")
    numbered = {int(file.stem): file for file in files}
    if len(numbered) < len(files):
        raise InputError(f"{folder}: two files have the same frame number")
    return [numbered[number] for number in sorted(numbered)]


def _read_masks(
    src: Path, name: str, frames: list[Path], source: str | None
) -> dict[int, FrameMasks]:
    """Masks by frame number, from instance maps or text."""
    maps, text = src / "instances" / name, src / "instances_txt" / f"{name}.txt"
    if source != "txt" and maps.is_dir():
        return {int(frame.stem): _read_map(maps / f"{frame.stem}.png") for frame in frames}
    if source != "png" and text.is_file():
        return _read_text(text)
    expected = [maps] * (source != "txt") + [text] * (source != "png")
    raise InputError(f"sequence {name}: no annotations at {' or '.join(map(str, expected))}")


def _read_map(path: Path) -> FrameMasks:
    """Masks of one instance map: 0 is background, 10000 an ignore region."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; every frame needs its instance map")
    masks = masks_by_index(read_instance_map(path))
    for object_id in masks:
        _check_class(object_id // IDS_PER_CLASS, str(path))
    return masks


def _read_text(path: Path) -> dict[int, FrameMasks]:
    frames: dict[int, FrameMasks] = defaultdict(dict)
    for line in read_mots_text(path):
        _check_class(line.label, line.where)
        if line.object_id // IDS_PER_CLASS != line.label:
            raise InputError(
                f"{line.where}: object {line.object_id} is not of class {line.label}; ids are "
                "class * 1000 + number"
            )
        frames[line.frame][line.object_id] = line.mask
    return frames


def _check_class(label: int, where: str) -> None:
    if label != IGNORE_CLASS and not 1 <= label <= len(CLASS_NAMES):
        raise InputError(f"{where}: class {label} is not in MOTS (1 car, 2 person, 10 ignore)")


def _clip(name: str, files: list[Path], masks: dict[int, FrameMasks]) -> LabelledVideo:
    """Consecutive frames of a sequence; ``masks`` are those of the sequence by frame number."""
    frames = [masks.get(int(file.stem), {}) for file in files]
    sizes = [rle["size"] for frame in frames for rle in frame.values()]
    height, width = image_size(files[0], (sizes[0][0], sizes[0][1]) if sizes else None)
    for file, frame in zip(files, frames, strict=True):
        for rle in frame.values():
            rows, columns = rle["size"]
            check_same_size((rows, columns), (height, width), "its sequence", f"masks of {file}")
    tracks = []
    for number in sorted({number for frame in frames for number in frame}):
        label = number // IDS_PER_CLASS
        crowd = label == IGNORE_CLASS
        class_name = "person" if crowd else CLASS_NAMES[label - 1]
        tracks.append(LabelledTrack(class_name, [frame.get(number) for frame in frames], crowd))
    return LabelledVideo([f"{name}/{file.name}" for file in files], height, width, tracks)
