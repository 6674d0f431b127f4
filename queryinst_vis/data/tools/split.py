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
    """Divide a file into a large and a small part with all classes in both, where possible.

    Videos are told by their names (``names.video_name``): clips of one sequence stay
    together, and neither ids nor the order of the file matter. The names' SHA-256 decides: class
    by class, the rarest first, the small part takes the lowest hashes among the sequences that
    no rarer class has placed, until it has its share of the class (iterative stratification,
    after Sechidis et al., *On the Stratification of Multi-label Data*, ECML PKDD 2011). As the
    lowest hashes are taken whoever else is there, few videos change sides when others are added.

    Args:
        annotation_set: to divide; ids stay as they are.
        fraction: share of each class's sequences for the small part; above 0, below 1. A class
            with two sequences or more gets one on either side, if rarer classes leave one.
        salt: another text, another split.

    Returns:
        Contents of the large and of the small part; ``info.split`` says how they came about and
        holds each part's checksum (``names.videos_checksum``).

    Raises:
        InputError: ``fraction`` is out of range, or there are not two sequences to part.
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction {fraction:g}: must be above 0 and below 1")
    classes: dict[str, set[str]] = defaultdict(set)
    for video in annotation_set.videos.values():
        classes[video.name] |= _classes_of(annotation_set, video.id)
    if len(classes) < 2:
        raise InputError(
            "cannot split: all videos are clips of one sequence, which must stay together; "
            "use a separate folder for each sequence"
        )
    small = choose_names(classes, fraction, salt)
    parts = []
    for part, belongs in (("large", False), ("small", True)):
        kept = {i for i, video in annotation_set.videos.items() if (video.name in small) == belongs}
        content = keep_videos(annotation_set, kept)
        videos = content[f"{annotation_set.kind}s"]
        how = {"part": part, "fraction": fraction, "salt": salt}
        split = {**how, "checksum": videos_checksum(videos)}
        parts.append({**content, "info": {**_info(content), "split": split}})
    return parts[0], parts[1]


def _classes_of(annotation_set: AnnotationSet, identity: int) -> set[str]:
    """Names of the classes that a video shows."""
    return {
        annotation_set.categories[entry["category_id"]]
        for entry in annotation_set.entries[identity]
        if not entry.get("iscrowd")
    }


def _info(content: dict[str, Any]) -> dict[str, Any]:
    info = content.get("info")
    return info if isinstance(info, dict) else {}


def choose_names(classes: Mapping[str, Iterable[str]], fraction: float, salt: str) -> set[str]:
    """Names of the small part.

    Args:
        classes: what each sequence shows, by its name; at least two sequences.
        fraction, salt: as in ``split_set``.

    Returns:
        At least one name and not all.
    """
    order = sorted(classes, key=lambda name: hashlib.sha256(f"{salt}/{name}".encode()).digest())
    members: dict[str, list[str]] = defaultdict(list)
    for name in order:
        for shown in classes[name]:
            members[shown].append(name)
    small: set[str] = set()
    undecided = dict.fromkeys(order)  # a set that keeps its order
    for shown in sorted(members, key=lambda shown: (len(members[shown]), shown)):
        candidates = [name for name in members[shown] if name in undecided]
        taken = sum(name in small for name in members[shown])
        wanted = max(_share(len(members[shown]), fraction) - taken, 0)
        small.update(candidates[:wanted])
        for name in candidates:
            del undecided[name]
    # What shows no class fills the small part up to its share of all sequences.
    wanted = max(_share(len(order), fraction) - len(small), 0)
    small.update(list(undecided)[:wanted])
    return small or {order[0]}  # where each class has but one sequence, someone must go


def _share(count: int, fraction: float) -> int:
    """The small part's share of so many: rounded, but of two or more at least 1 and not all."""
    if count < 2:
        return 0
    return min(max(round(fraction * count), 1), count - 1)
