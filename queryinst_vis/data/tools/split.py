"""Deterministic train/val split by video name."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from queryinst_vis.data.tools.edit import keep_videos
from queryinst_vis.errors import InputError
from queryinst_vis.formats.annotation_set import AnnotationSet
from queryinst_vis.formats.names import videos_checksum


def split_set(
    annotation_set: AnnotationSet, fraction: float = 0.1, salt: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a file into a large and a small part, both with all classes if possible.

    Videos are identified by their names (``names.video_name``): clips of one sequence stay
    together, and so do images with the same ``video_id`` (see ``sequences_of``). The split does
    not depend on ids or file order. Class by class, starting with the rarest, the small part takes
    the sequences with the lowest SHA-256 of their names among those not yet assigned, until it has
    its fraction of the class (iterative stratification, after Sechidis et al., *On the
    Stratification of Multi-label Data*, ECML PKDD 2011), but never the last one of a class with
    several. Since the lowest hashes are taken, few videos change sides when others are added.

    Args:
        annotation_set: the file to split; ids do not change.
        fraction: fraction of each class's sequences in the small part, 0..1 (exclusive). A class
            with two or more sequences has one in each part, if rarer classes permit.
        salt: changes the hashes, and thus the split.

    Returns:
        Contents of the large and of the small part. Their ``info.split`` records the parameters
        and a checksum of each part (``names.videos_checksum``).

    Raises:
        InputError: ``fraction`` is out of range, or there are fewer than two sequences.
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction {fraction:g}: must be above 0 and below 1")
    classes: dict[str, set[str]] = defaultdict(set)
    sequences = sequences_of(annotation_set)
    for identity, name in sequences.items():
        classes[name] |= _classes_of(annotation_set, identity)
    if len(classes) < 2:
        raise InputError(
            "cannot split: all videos are clips of one sequence, which must stay together; "
            "use a separate folder for each sequence"
        )
    small = choose_names(classes, fraction, salt)
    parts = []
    for part, is_small in (("large", False), ("small", True)):
        kept = {identity for identity, name in sequences.items() if (name in small) == is_small}
        content = keep_videos(annotation_set, kept)
        videos = content[f"{annotation_set.kind}s"]
        parameters = {"part": part, "fraction": fraction, "salt": salt}
        split = {**parameters, "checksum": videos_checksum(videos)}
        parts.append({**content, "info": {**_info(content), "split": split}})
    return parts[0], parts[1]


def sequences_of(annotation_set: AnnotationSet) -> dict[int, str]:
    """The name of the sequence of each video or image, by id.

    Images with a ``video_id`` are frames of a video and belong together, unless all images are of
    one video.
    """
    names = {identity: video.name for identity, video in annotation_set.videos.items()}
    if annotation_set.kind == "video":
        return names
    sequences = names | {
        image["id"]: f"video {image['video_id']}"
        for image in annotation_set.content["images"]
        if image.get("video_id") is not None
    }
    return sequences if len(set(sequences.values())) > 1 else names


def _classes_of(annotation_set: AnnotationSet, identity: int) -> set[str]:
    """Names of the classes in a video."""
    return {
        annotation_set.categories[entry["category_id"]]
        for entry in annotation_set.entries[identity]
        if not entry.get("iscrowd")
    }


def _info(content: dict[str, Any]) -> dict[str, Any]:
    info = content.get("info")
    return info if isinstance(info, dict) else {}


def choose_names(classes: Mapping[str, Iterable[str]], fraction: float, salt: str) -> set[str]:
    """Choose the sequences of the small part.

    Args:
        classes: classes of each sequence, by its name; at least two sequences.
        fraction, salt: as for ``split_set``.

    Returns:
        Names of at least one, but not all sequences.
    """
    order = sorted(classes, key=lambda name: hashlib.sha256(f"{salt}/{name}".encode()).digest())
    members: dict[str, list[str]] = defaultdict(list)
    for name in order:
        for class_name in classes[name]:
            members[class_name].append(name)
    small: set[str] = set()
    unassigned = dict.fromkeys(order)  # an ordered set
    for class_name in sorted(members, key=lambda name: (len(members[name]), name)):
        candidates = [name for name in members[class_name] if name in unassigned]
        missing = _part_size(len(members[class_name]), fraction)
        missing -= sum(name in small for name in members[class_name])
        for name in candidates:
            del unassigned[name]
            if missing > 0 and not _exhausts_a_class(name, classes, members, small):
                small.add(name)
                missing -= 1
    # sequences without instances fill the small part up to its fraction of all sequences
    missing = max(_part_size(len(order), fraction) - len(small), 0)
    small.update(list(unassigned)[:missing])
    return small or {order[0]}  # never empty, even if every class has a single sequence


def _exhausts_a_class(
    name: str,
    classes: Mapping[str, Iterable[str]],
    members: Mapping[str, list[str]],
    small: set[str],
) -> bool:
    """Whether the large part would lack one of the classes of this sequence without it."""
    return any(
        all(other in small for other in members[each] if other != name) for each in classes[name]
    )


def _part_size(count: int, fraction: float) -> int:
    """Size of the small part of ``count`` sequences: rounded, but neither empty nor all of them."""
    if count < 2:
        return 0
    return min(max(round(fraction * count), 1), count - 1)
