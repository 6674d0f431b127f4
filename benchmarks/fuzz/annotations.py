"""Annotation and result files of videos and images with one to three errors."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from benchmarks.fuzz.case import Case, Room
from benchmarks.fuzz.mutations import STRANGE, mutated, mutated_bytes, slots

LYING = {
    "iscrowd": ["0", "1", "true", 2, -1, 0.5],
    "category_id": ["7", 7.5, True, 10**30, -7],
    "width": [10**9, 0, -1, "96", 96.5, 97],
    "height": [10**9, 0, -1, "64", 64.5, 63],
    "length": [10**9, 0, -1, "4", 3, 5],
    "file_names": [5, "0/0.png", ["../../etc/passwd"], ["/etc/passwd"], [None], ["0/0.png"] * 4],
    "file_name": [5, "../../../etc/passwd", "/etc/passwd", "", ".", "a\u0000b", "x" * 5000],
    "name": ["", "box ", "Box", 7, None, "crate", "é" * 300, "[bold]x[/bold]"],
    "bbox": [
        [0, 0, -5, 5],
        [1e300] * 4,
        ["1"] * 4,
        [],
        [0, 0, 10**9, 10**9],
        {},
        [float("nan")] * 4,
    ],
    "score": [-1, 2, "0.5", None, float("nan"), float("inf"), True, 10**400],
    "id": [0, "1", 1.5, True, -1, 2**63, None],
}
"""Plausible but invalid values, by key."""

NEVER = {
    "iscrowd": LYING["iscrowd"][:3],
    "category_id": ["7", 7.5],
    "score": ["0.5", None, float("nan"), float("inf")],
}
"""Values that every command must reject, by key."""

SCORING = ("eval-video", "eval-tracking", "eval-image", "diagnose", "compare", "train", "validate")
"""Commands that would report wrong numbers."""


def spoilt_json(content: Any, rng: random.Random) -> tuple[bytes, str, str | None]:
    """One to three errors in the structure of a JSON file, and sometimes one in its bytes.

    Returns:
        The file, what was done to it, and why scoring it in silence would be wrong, if so.
    """
    content, notes, never = copy.deepcopy(content), [], None
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(slots(content)) if isinstance(content, dict | list) else []
        lying = [(h, k) for h, k in places if isinstance(h, dict) and k in LYING]
        if rng.random() < 0.5 and lying:
            key = rng.choice(sorted({k for _, k in lying}))
            holder, key = rng.choice([(h, k) for h, k in lying if k == key])
            holder[key] = rng.choice(LYING[key])
            notes.append(f"{key} = {str(holder[key])[:30]!r}")
            if any(holder[key] is value for value in NEVER.get(key, [])):
                never = f"{notes[-1]} is taken"
        elif rng.random() < 0.1:
            content = copy.deepcopy(rng.choice(STRANGE))
            notes.append(f"the file = {str(content)[:30]!r}")
        else:
            content = mutated(content, rng)
            notes.append("structure")
    data = json.dumps(content, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if rng.random() < 0.15:
        data = mutated_bytes(data, rng)
        notes.append("bytes")
    return data, ", ".join(notes), never if len(notes) == 1 else None


BOTH = {
    "data validate set.json --images {images} --json f.json": "f.json",
    "data stats set.json --json s.json --plots plots": "s.json plots",
    "data split set.json a.json b.json --fraction 0.5": "a.json b.json",
    "data filter set.json o.json --classes box": "o.json",
    "data remap set.json o.json --map box=crate": "o.json",
    "data merge set.json {sound} o.json": "o.json",
    "data browse set.json --images {images} --out o.jpg": "o.jpg",
    "data browse set.json --images {images} --out o.mp4": "o.mp4",
    "train {config} data.train.annotations=set.json data.val.annotations=set.json "
    "train.max_steps=1 --work-dir run --devices 1": "run",
    "train {config} data.train.annotations=set.json train.max_steps=1 "
    "--work-dir run --devices 1": "run",
}
"""Commands that read annotations, and their outputs."""

VIDEOS = {
    "eval-video set.json {results} --json n.json": "n.json",
    "eval-tracking set.json {results} --json n.json": "n.json",
    "diagnose set.json {results} --out why": "why",
    "convert-dataset youtube-vis set.json o.json --coco c.json": "o.json c.json",
    "convert-dataset to-mots set.json mots --images {images} --class box=car "
    "--class crate=person --class unknown=none": "mots",
    "convert-results {results} o.json --gt set.json --to coco-video": "o.json",
    "check-submission {results} set.json --json f.json": "",
}

IMAGES = {
    "eval-image set.json {results} --json n.json": "n.json",
    "convert-dataset coco-video set.json {images} v --frames 3": "v",
}

RESULTS = {
    "eval-video {sound} r.json --json n.json": "n.json",
    "eval-video {sound} r.json --confidence 20 --per-video": "",
    "eval-tracking {sound} r.json --json n.json": "n.json",
    "diagnose {sound} r.json --out why": "why",
    "compare {sound} {results} r.json --samples 20 --json n.json": "n.json",
    "check-submission r.json {sound} --json f.json": "",
    "zip r.json r.zip": "r.zip",
    "convert-results r.json mots --gt {sound} --class box=1 --class crate=2 "
    "--class unknown=3": "mots",
    "convert-results r.json o.json --gt {sound} --to coco-video": "o.json",
    "data browse {sound} --images {images} --results r.json --out o.jpg": "o.jpg",
}

FINDINGS = ["f.json", "run/*"]
"""Files that commands write despite exit status 2: findings, and training states."""


def fill(room: Room, text: str, videos: bool) -> list[str]:
    """A command line with the paths of the valid files."""
    kind = "set" if videos else "coco"
    names = {
        "images": room.samples / kind,
        "sound": room.samples / kind / ("videos.json" if videos else "images.json"),
        "results": room.samples / ("results.json" if videos else "image_results.json"),
        "config": room.samples / ("config.yaml" if videos else "image_config.yaml"),
    }
    return [word.format(**names) for word in text.split()]


def annotations(room: Room) -> Case:
    """A corrupted YouTube-VIS or COCO file for every command that reads one."""
    videos = room.random.random() < 0.6
    name = "set/videos.json" if videos else "coco/images.json"
    content = json.loads((room.samples / name).read_text())
    data, note, never = spoilt_json(content, room.random)
    (room.folder / "set.json").write_bytes(data)
    commands = {**BOTH, **(VIDEOS if videos else IMAGES)}
    text, outputs = room.random.choice(sorted(commands.items()))
    words = fill(room, text, videos)
    refuse = never if any(word in SCORING for word in words[:2]) else None
    return Case(words, f"{name}: {note}", outputs.split(), FINDINGS, refuse=refuse)


def results(room: Room) -> Case:
    """A corrupted result file for every command that reads one."""
    videos = room.random.random() < 0.9
    name = "results.json" if videos else "image_results.json"
    content = json.loads((room.samples / name).read_text())
    data, note, never = spoilt_json(content, room.random)
    (room.folder / "r.json").write_bytes(data)
    commands = RESULTS if videos else {"eval-image {sound} r.json --json n.json": "n.json"}
    text, outputs = room.random.choice(sorted(commands.items()))
    words = fill(room, text, videos)
    refuse = never if words[0] in SCORING else None
    return Case(words, f"{name}: {note}", outputs.split(), FINDINGS, refuse=refuse)
