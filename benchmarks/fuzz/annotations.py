"""Annotation and result files of videos and images with one to three errors."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from benchmarks.fuzz.case import Case, Context
from benchmarks.fuzz.mutations import STRANGE, mutated, mutated_bytes, slots

INVALID = {
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

ALWAYS_REJECTED = {
    "iscrowd": INVALID["iscrowd"][:3],
    "category_id": ["7", 7.5],
    "score": ["0.5", None, float("nan"), float("inf")],
}
"""Values that every command must reject, by key."""

SCORING = ("eval-video", "eval-tracking", "eval-image", "diagnose", "compare", "train", "validate")
"""Commands that compute metrics or train, for which accepted invalid values are failures."""


def corrupt_json(content: Any, rng: random.Random) -> tuple[bytes, str, str | None]:
    """One to three errors in the structure of a JSON file, and sometimes one in its bytes.

    Returns:
        The file, a description of its errors, and why it must be rejected, None if it need not be.
    """
    content, notes, must_reject = copy.deepcopy(content), [], None
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(slots(content)) if isinstance(content, dict | list) else []
        candidates = [(h, k) for h, k in places if isinstance(h, dict) and k in INVALID]
        if rng.random() < 0.5 and candidates:
            key = rng.choice(sorted({k for _, k in candidates}))
            holder, key = rng.choice([(h, k) for h, k in candidates if k == key])
            holder[key] = rng.choice(INVALID[key])
            notes.append(f"{key} = {str(holder[key])[:30]!r}")
            if any(holder[key] is value for value in ALWAYS_REJECTED.get(key, [])):
                must_reject = f"{notes[-1]} is accepted"
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
    return data, ", ".join(notes), must_reject if len(notes) == 1 else None


BOTH = {
    "data validate set.json --images {images} --json f.json": "f.json",
    "data stats set.json --json s.json --plots plots": "s.json plots",
    "data split set.json a.json b.json --fraction 0.5": "a.json b.json",
    "data filter set.json o.json --classes box": "o.json",
    "data remap set.json o.json --map box=crate": "o.json",
    "data merge set.json {valid} o.json": "o.json",
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
    "eval-video {valid} r.json --json n.json": "n.json",
    "eval-video {valid} r.json --confidence 20 --per-video": "",
    "eval-tracking {valid} r.json --json n.json": "n.json",
    "diagnose {valid} r.json --out why": "why",
    "compare {valid} {results} r.json --samples 20 --json n.json": "n.json",
    "check-submission r.json {valid} --json f.json": "",
    "zip r.json r.zip": "r.zip",
    "convert-results r.json mots --gt {valid} --class box=1 --class crate=2 "
    "--class unknown=3": "mots",
    "convert-results r.json o.json --gt {valid} --to coco-video": "o.json",
    "data browse {valid} --images {images} --results r.json --out o.jpg": "o.jpg",
}

FINDINGS = ["f.json", "run/*"]
"""Files that commands write despite exit status 2: findings, and training states."""


def fill(context: Context, text: str, videos: bool) -> list[str]:
    """A command line with the paths of the valid files."""
    kind = "set" if videos else "coco"
    names = {
        "images": context.samples / kind,
        "valid": context.samples / kind / ("videos.json" if videos else "images.json"),
        "results": context.samples / ("results.json" if videos else "image_results.json"),
        "config": context.samples / ("config.yaml" if videos else "image_config.yaml"),
    }
    return [word.format(**names) for word in text.split()]


def annotations(context: Context) -> Case:
    """A corrupted YouTube-VIS or COCO file for every command that reads one."""
    videos = context.random.random() < 0.6
    name = "set/videos.json" if videos else "coco/images.json"
    content = json.loads((context.samples / name).read_text())
    data, note, must_reject = corrupt_json(content, context.random)
    (context.folder / "set.json").write_bytes(data)
    commands = {**BOTH, **(VIDEOS if videos else IMAGES)}
    text, outputs = context.random.choice(sorted(commands.items()))
    words = fill(context, text, videos)
    must_reject = must_reject if any(word in SCORING for word in words[:2]) else None
    return Case(words, f"{name}: {note}", outputs.split(), FINDINGS, must_reject=must_reject)


def results(context: Context) -> Case:
    """A corrupted result file for every command that reads one."""
    videos = context.random.random() < 0.9
    name = "results.json" if videos else "image_results.json"
    content = json.loads((context.samples / name).read_text())
    data, note, must_reject = corrupt_json(content, context.random)
    (context.folder / "r.json").write_bytes(data)
    commands = RESULTS if videos else {"eval-image {valid} r.json --json n.json": "n.json"}
    text, outputs = context.random.choice(sorted(commands.items()))
    words = fill(context, text, videos)
    must_reject = must_reject if words[0] in SCORING else None
    return Case(words, f"{name}: {note}", outputs.split(), FINDINGS, must_reject=must_reject)
