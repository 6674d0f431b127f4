"""Small valid evaluation files, and random errors in them."""

import copy
import json
import random

import numpy as np
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 24, 32
STRANGE = [
    *(None, True, False, 0, -1, 1, 2, 0.5, 1e308, -1e308, 10**400, 2**31, 2**32, 2**63, -(2**40)),
    *(float("nan"), float("inf"), -float("inf"), "", "1", "NaN", "é\u0000\ud800", "a" * 3000),
    *([], {}, [[]], [None], [1, [2, [3]]], {"id": 1}, {"size": [24, 32]}, [[[[[[]]]]]], [1e400]),
]
COUNTS = [
    *("", "0", "00", "o", "oooooooo", "PPPo0", "~~", "\x00", "0" * 5000, "1" * 4000, "é", "b'0'"),
    *("ooooooo0", "P" * 6 + "0", "h0" * 300, "`h0", "Oo" * 50, "ool0", "0oooool1"),
]
RUNS = [
    *([], [768], [0, 768], [767], [769], [0, 0, 0, 768], [10, 0, 5, 753], [768, 0], [-1, 769]),
    *([2**32 + 768], [10**30], [768.5], [768.0], ["768"], [None], [True] * 768, [[768]]),
    *([float("nan")], [float("inf")], [1] * 768, [0] * 9000, [4294967295, 1, 768], [384, 384, 0]),
]
POLYGONS = [
    *([1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6], [0] * 6, ["1"] * 6, [None] * 6),
    *([float("nan")] * 6, [1e9] * 6, [-1e300, 0, 1e300, 0, 5, 5], [0, 0, 1e6, 1e6, 0, 1e6]),
    *([-24, -24, 48, -24, 48, 48], [[1, 2], [3, 4], [5, 6]], [1, 1, 31, 1, 31, 23] * 2000),
    *([True] * 6, {"a": 1}, "abcdef", [0, 0, 32, 0, 32, 24, 0, 24], [5.5] * 7, [2**31] * 8),
]


def valid_files(rng):
    """Ground truth and results of two short videos, with masks of all forms."""

    def mask():
        pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
        y, x = rng.randrange(HEIGHT - 8), rng.randrange(WIDTH - 8)
        pixels[y : y + rng.randrange(2, 8), x : x + rng.randrange(2, 8)] = 1
        rle = coco_mask.encode(pixels)
        forms = [
            None,
            {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
            {"size": [HEIGHT, WIDTH], "counts": [y * 3, 5, HEIGHT * WIDTH - 5 - y * 3]},
            [[float(v) for v in (x, y, x + 6, y, x + 6, y + 5.5, x, y + 5)]],
        ]
        return rng.choice(forms)

    lengths = {1: 3, 7: 2}
    gt = {
        "info": {"description": "ä"},
        "videos": [
            {
                "id": video,
                "height": HEIGHT,
                "width": WIDTH,
                "length": length,
                "file_names": [f"clip/{video}_{k}.jpg" for k in range(length)],
            }
            for video, length in lengths.items()
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 5, "name": "dog"}],
        "annotations": [],
    }
    results = []
    for number in range(1, 9):
        video = rng.choice(list(lengths))
        entry = {
            "video_id": video,
            "category_id": rng.choice([1, 1, 5]),
            "segmentations": [mask() for _ in range(lengths[video])],
        }
        if number < 4:
            gt["annotations"].append({"id": number, "iscrowd": 0, **entry})
            if number == 3:
                gt["annotations"][-1].update(iscrowd=1, areas=[40.0] * lengths[video])
        results.append({"score": rng.random(), **copy.deepcopy(entry)})
    return gt, results


def mutated_files(seed):
    """Bytes of a ground-truth and a result file with one to three errors."""
    rng = random.Random(seed)
    contents = list(valid_files(rng))
    for _ in range(rng.choice([1, 1, 2, 3])):
        which = rng.randrange(2)
        contents[which] = mutated(contents[which], rng)
    texts = [json.dumps(content, ensure_ascii=rng.random() < 0.5) for content in contents]
    files = [text.encode("utf-8", "surrogatepass") for text in texts]
    if rng.random() < 0.3:
        which = rng.randrange(2)
        files[which] = mutated_bytes(files[which], rng)
    return files


def mutated(content, rng):
    """One error in the structure, or a valid change."""
    if rng.random() < 0.3:
        return changed(content, rng)
    if not isinstance(content, dict | list):
        return content
    holder, key = rng.choice(list(slots(content)) or [([content], 0)])
    value = holder[key]
    if rng.random() < 0.35:  # prefer masks, since they are read by C code
        masks = [(h, k) for h, k in slots(content) if is_mask(h[k])]
        if masks:
            holder, key = rng.choice(masks)
            holder[key] = corrupt_mask(holder[key], rng)
            return content
    fault = rng.randrange(7)
    if fault == 0:
        holder.pop(key)
    elif fault == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(value))
    elif fault == 2 and isinstance(holder, list):
        rng.shuffle(holder)
    elif fault == 3 and isinstance(value, int | float):
        holder[key] = value * rng.choice([-1, 1.0, 10, 1e9, 1.5]) + rng.choice([0, 1, -1])
    elif fault == 4 and isinstance(holder, dict):
        holder[rng.choice([*holder, "extra"])] = rng.choice(STRANGE)
    elif fault == 5:
        nested = value
        for _ in range(rng.choice([1, 2, 50])):
            nested = [nested]
        holder[key] = nested
    else:
        holder[key] = copy.deepcopy(rng.choice(STRANGE))
    return content


def changed(content, rng):
    """The structure with another valid value."""
    entries = content.get("annotations") if isinstance(content, dict) else content
    is_list = isinstance(entries, list)
    chosen = [entry for entry in entries if isinstance(entry, dict)] if is_list else []
    if chosen:
        entry = rng.choice(chosen)
        key = rng.choice(["score", "iscrowd", "category_id", "areas", "new"])
        values = {"score": -1e9, "iscrowd": 1, "category_id": 5, "areas": [0, None, 1e300]}
        entry[key] = values.get(key, "é")
    return content


def slots(content):
    """Every place in a structure that holds a value, as ``(holder, key)``."""
    keys = content if isinstance(content, dict) else range(len(content))
    for key in keys:
        yield content, key
        if isinstance(content[key], dict | list):
            yield from slots(content[key])


def is_mask(value):
    """Whether a value is a mask: polygons, or a dict of run lengths."""
    is_polygons = isinstance(value, list) and value and isinstance(value[0], list)
    return is_polygons or (isinstance(value, dict) and "counts" in value)


def corrupt_mask(mask, rng):
    """A mask with unusual polygons, counts or size."""
    if isinstance(mask, list) or rng.random() < 0.15:
        polygons = [copy.deepcopy(rng.choice(POLYGONS)) for _ in range(rng.randrange(1, 3))]
        return [*(mask if isinstance(mask, list) and rng.random() < 0.5 else []), *polygons]
    counts = mask["counts"]
    kind = rng.randrange(5)
    if kind == 0:
        counts = rng.choice(COUNTS)
    elif kind == 1:
        counts = copy.deepcopy(rng.choice(RUNS))
    elif kind == 2 and isinstance(counts, str) and counts:  # replace, drop or insert characters
        at = rng.randrange(len(counts))
        counts = (
            counts[:at] + rng.choice(["", chr(rng.randrange(40, 120)), "00"]) + counts[at + 1 :]
        )
    elif kind == 3 and isinstance(counts, list):
        at = rng.randrange(len(counts) + 1)
        counts = [*counts[:at], rng.choice([0, 1, -5, 768, 2**33, 0.5]), *counts[at:]]
    else:
        sizes = [[24], [32, 24], [24, 32, 1], ["24", "32"], [24.0, 32.0], [-24, -32], [0, 0], None]
        return {"size": rng.choice([*sizes, [2**40, 2**40], 24, {"0": 24}]), "counts": counts}
    return {"size": mask["size"], "counts": counts}


def mutated_bytes(text, rng):
    """The bytes of a file with an error, as from a broken disk or an interrupted job."""
    kind = rng.randrange(6)
    at = rng.randrange(len(text))
    if kind == 0:
        return text[:at]
    if kind == 1:
        return text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]
    if kind == 2:
        return text[:at] + text[at + rng.randrange(1, 30) :]
    if kind == 3:
        return text + rng.choice([b"]", b"}", b" ", b"\n\n", b"\x00", b"[]", b","])
    if kind == 4:
        return rng.choice([b"", b"\xff\xfe", b"\xef\xbb\xbf" + text, b"[" * 20000, b"7", b'"x"'])
    deep = rng.choice([900, 5000, 200000])
    return text[:at] + b"[" * deep + b"]" * deep + text[at:]
