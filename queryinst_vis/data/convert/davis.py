"""DAVIS and YouTube-VOS to YouTube-VIS: palette PNGs whose indices are object ids."""

from __future__ import annotations

import re
from pathlib import Path

from queryinst_vis.data.convert.builder import (
    LabelledTrack,
    LabelledVideo,
    build_video_set,
    write_video_set,
)
from queryinst_vis.data.convert.images import (
    check_same_size,
    image_files,
    image_size,
    masks_by_index,
    read_palette_indices,
    subfolders,
)
from queryinst_vis.errors import InputError
from queryinst_vis.formats.fields import require
from queryinst_vis.masks import RLE
from queryinst_vis.utils.files import read_json
from queryinst_vis.utils.progress import show_progress

VOID = 255
"""Index of void pixels, which are neither annotated nor evaluated."""

ObjectNames = dict[int, str]
"""Class name of each object id of a sequence."""


def convert_davis(
    src: str | Path,
    dst: str | Path,
    *,
    annotations: str = "Annotations",
    resolution: str | None = None,
    sequences: str | Path | None = None,
    meta: str | Path | None = None,
) -> str:
    """Write DAVIS-style sequences as one YouTube-VIS annotation file.

    Expects ``SRC/JPEGImages/480p/SEQUENCE/*.jpg`` and, for the annotated ones of these frames,
    ``SRC/Annotations/480p/SEQUENCE/*.png`` (8 bits, palette or grey: index 0 is background, 255
    void, all others an object of the sequence). YouTube-VOS has the same without ``480p``.
    Frames without a PNG are not annotated and skipped, with a count in the summary. Void becomes
    ``iscrowd`` annotations, one for each class of the sequence. File names are relative to
    ``SRC/JPEGImages`` (or ``SRC/JPEGImages/480p``).

    Args:
        src: the DAVIS folder.
        dst: annotation file to write.
        annotations: name of the annotation folder, e.g. ``Annotations_unsupervised``.
        resolution: name of the resolution folder, e.g. ``480p``; None if there is at most one.
        sequences: text file with one sequence name per line, e.g. ``ImageSets/2017/val.txt``; None
            converts all sequences with annotations.
        meta: ``meta.json`` of YouTube-VOS with the category of every object; None: all objects
            have the class ``object``.

    Returns:
        One-line summary.

    Raises:
        InputError: missing folders or frames, an invalid PNG or one of another size, an object
            missing in ``meta``, the binary masks of DAVIS 2016.
    """
    src = Path(src)
    masks = _level(src / annotations, resolution)
    images = _level(src / "JPEGImages", resolution)
    folders = _chosen(masks, sequences)
    objects: dict[str, ObjectNames] | None = None
    class_names = ["object"]
    if meta is not None:
        objects = _read_meta(Path(meta))
        # classes of all sequences, so that every selection has the same category ids
        class_names = sorted({name for names in objects.values() for name in names.values()})
    videos = []
    left_out = 0
    for folder in show_progress(folders, "reading DAVIS"):
        names = None if objects is None else objects.get(folder.name, {})
        video, unannotated = _read_sequence(folder, images / folder.name, names, meta)
        videos.append(video)
        left_out += unannotated
    video_set = build_video_set(videos, f"{src.name}, {annotations}", class_names)
    return write_video_set(dst, video_set, {"frames without a PNG left out": left_out})


def _level(folder: Path, resolution: str | None) -> Path:
    """The folder with the sequences: ``folder`` or a subfolder."""
    if resolution is not None:
        subfolders(folder / resolution, "sequence")
        return folder / resolution
    found = subfolders(folder, "sequence")
    deeper = [path for path in found if any(below.is_dir() for below in path.iterdir())]
    if len(deeper) > 1:
        raise InputError(
            f"{folder}: contains {', '.join(path.name for path in deeper)}; choose a resolution"
        )
    return deeper[0] if deeper else folder


def _chosen(masks: Path, sequences: str | Path | None) -> list[Path]:
    """The mask folders of the sequences to convert."""
    if sequences is None:
        return subfolders(masks, "sequence")
    try:
        names = Path(sequences).read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"sequence list {sequences}: not readable as text ({error})") from error
    if not names:
        raise InputError(f"sequence list {sequences}: contains no sequence")
    for name in names:
        if Path(name).name != name or not (masks / name).is_dir():
            raise InputError(f"sequence list {sequences}: '{name}' is not a folder in {masks}")
    return [masks / name for name in dict.fromkeys(names)]


def _read_meta(path: Path) -> dict[str, ObjectNames]:
    """Object names of YouTube-VOS, by sequence."""
    content = read_json(path, "meta file")
    objects: dict[str, ObjectNames] = {}
    for name, video in require(content, "videos", dict, str(path)).items():
        where = f"{path}: video {name}"
        objects[name] = {}
        for identity, entry in require(video, "objects", dict, where).items():
            if not re.fullmatch("[0-9]{1,3}", identity):
                raise InputError(f"{where}: object '{identity:.40}' is not a palette index")
            here = f"{where}, object {identity}"
            objects[name][int(identity)] = require(entry, "category", str, here)
    return objects


def _read_sequence(
    masks: Path, images: Path, names: ObjectNames | None, meta: str | Path | None
) -> tuple[LabelledVideo, int]:
    """One video, and the number of skipped frames without a PNG."""
    if not images.is_dir():
        raise InputError(f"{images}: no such folder; it should contain the frames for {masks}")
    frames = {path.stem: path for path in image_files(images)}
    pngs = [path for path in image_files(masks) if path.suffix.lower() == ".png"]
    if not pngs:
        raise InputError(f"{masks}: contains no PNG files")
    for path in pngs:
        if path.stem not in frames:
            raise InputError(f"{path}: has no frame {path.stem}.jpg in {images}")
    height, width = image_size(frames[pngs[0].stem], image_size(pngs[0]))
    shown = [_read_indices(path, height, width) for path in pngs]
    found = {index for frame in shown for index in frame}
    if found == {VOID}:
        raise InputError(
            f"{masks}: the only index is {VOID}, which is void; the masks of DAVIS 2016 do not "
            "distinguish objects, use those of 2017"
        )
    tracks = []
    for index in sorted(found - {VOID}):
        if names is not None and index not in names:
            raise InputError(f"{masks}: object {index} of this sequence is not in {meta}")
        name = "object" if names is None else names[index]
        tracks.append(LabelledTrack(name, [frame.get(index) for frame in shown]))
    void = [frame.get(VOID) for frame in shown]
    if any(void):
        class_names = sorted({track.class_name for track in tracks})
        tracks += [LabelledTrack(name, void, crowd=True) for name in class_names]
    files = [f"{images.name}/{frames[path.stem].name}" for path in pngs]
    return LabelledVideo(files, height, width, tracks), len(frames) - len(pngs)


def _read_indices(path: Path, height: int, width: int) -> dict[int, RLE]:
    """Mask of every index of a PNG except the background."""
    indices = read_palette_indices(path, str(path))
    rows, columns = indices.shape
    check_same_size((rows, columns), (height, width), "its sequence", str(path))
    return masks_by_index(indices)
