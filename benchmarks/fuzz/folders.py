"""Zips of results, and input folders of the converters."""

from __future__ import annotations

import json
import random
import re
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.fuzz.annotations import FINDINGS, corrupt_json, fill
from benchmarks.fuzz.blobs import corrupt_bytes
from benchmarks.fuzz.case import Case, Context

COMMANDS = {
    "eval-video {valid} r.zip --json n.json": "n.json",
    "check-submission r.zip {valid} --json f.json": "",
    "eval-tracking {valid} r.zip": "",
    "convert-results r.zip o.json --gt {valid} --to coco-video": "o.json",
    "data validate {valid} --results r.zip": "",
    "diagnose {valid} r.zip --out why": "why",
}


def zipped(context: Context) -> Case:
    """Zips of results that are corrupted, have wrong sizes, or contain something else."""
    rng = context.random
    path = context.folder / "r.zip"
    note = _write_zip(path, (context.samples / "results.json").read_bytes(), rng)
    if rng.random() < 0.5:
        data, more = corrupt_bytes(path.read_bytes(), rng)
        path.write_bytes(data)
        note = f"{note}, {more}"
    text, outputs = rng.choice(sorted(COMMANDS.items()))
    return Case(fill(context, text, videos=True), note, outputs.split(), FINDINGS, memory=1024)


def _write_zip(path: Path, data: bytes, rng: random.Random) -> str:
    kind = rng.randrange(8)
    method = rng.choice(
        [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    )
    name, note = "results.json", f"method {method}"
    with zipfile.ZipFile(path, "w", method) as archive:
        if kind == 0:
            name = rng.choice(
                ["", "a/results.json", "../results.json", "/results.json", "RESULTS.JSON", "x"]
            )
        elif kind == 1:
            mebibytes = rng.choice([1, 1000])
            with archive.open(_member(name, zipfile.ZIP_DEFLATED), "w", force_zip64=True) as entry:
                for _ in range(mebibytes):
                    entry.write(b" " * 2**20)
            return f"{mebibytes} MiB of spaces"
        elif kind == 2:
            archive.writestr(_member("results.json", method), b"[]")  # twice
        elif kind == 3:
            for index in range(rng.choice([3, 3000])):
                archive.writestr(_member(f"{index}.json", method), b"[]")
        elif kind == 4:
            data, note = rng.choice([b"", b"PK", b"\xff\xfe[\x00]\x00", b"null"]), "another content"
        if kind != 5:
            archive.writestr(_member(name, method), data)
    if kind == 6:  # marked as encrypted
        raw = bytearray(path.read_bytes())
        for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = raw.rfind(mark) + offset
            raw[at] |= 1
        path.write_bytes(bytes(raw))
        note = "encrypted"
    elif kind == 7:  # an invalid size
        raw = bytearray(path.read_bytes())
        at = raw.rfind(b"PK\x01\x02") + 24
        raw[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 2**31, 2**32 - 2]))
        path.write_bytes(bytes(raw))
        note = "wrong size in the directory"
    return f"{name or 'no name'}, {note}"


def _member(name: str, method: int) -> zipfile.ZipInfo:
    """An entry without a timestamp, for reproducible files."""
    member = zipfile.ZipInfo(name)
    member.compress_type = method
    return member


CONVERTERS = {
    "mots": ["mots", "data", "o.json", "--coco", "c.json"],
    "davis": ["davis", "data", "o.json"],
    "labelme": ["labelme", "data", "o.json"],
    "cvat": ["cvat", "data", "o.json"],
    "cityscapes": ["cityscapes", "data", "o.json"],
}


def dataset_folder(context: Context) -> Case:
    """A folder for a converter in which one to three files are corrupted, moved or missing."""
    rng = context.random
    name = rng.choice(sorted(CONVERTERS))
    data = context.folder / "data"
    shutil.copytree(context.samples / name, data)
    notes = [_corrupt_folder(data, rng) for _ in range(rng.choice([1, 1, 2, 3]))]
    words = ["convert-dataset", *CONVERTERS[name]]
    if name == "mots" and rng.random() < 0.5:
        words += ["--from", "txt"]
    outputs = [word for word in words if word.endswith(".json")]
    return Case(words, f"{name}: {', '.join(notes)}", outputs)


def _corrupt_folder(folder: Path, rng: random.Random) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        return "empty"
    texts = [path for path in files if path.suffix in (".json", ".xml", ".txt")]
    path = rng.choice(texts if texts and rng.random() < 0.6 else files)
    short, kind = str(path.relative_to(folder)), rng.randrange(8)
    if kind == 0:
        path.unlink()
        return f"{short} is missing"
    if kind == 1:
        target = path.with_name(
            rng.choice(["x", "é b", "00007", "-1", "1e3", "99999999999"]) + path.suffix
        )
        path.rename(target)
        return f"{short} is named {target.name}"
    if kind == 2:
        path.unlink()
        path.mkdir()
        return f"{short} is a folder"
    if kind == 3:
        more = rng.choice(files).read_bytes()
        (path.parent / f"copy{rng.randrange(1000)}{rng.choice(files).suffix}").write_bytes(more)
        return f"one more beside {short}"
    if kind == 4 and path.suffix == ".json" and (content := _parsed(path)) is not None:
        data, note, _ = corrupt_json(content, rng)
    elif path.suffix in (".xml", ".txt") and rng.random() < 0.8:
        data, note = _corrupt_text(path.read_text(errors="replace"), rng)
    else:
        data, note = corrupt_bytes(path.read_bytes(), rng)
    path.write_bytes(data)
    return f"{short}: {note}"


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:  # corrupted before
        return None


def _corrupt_text(text: str, rng: random.Random) -> tuple[bytes, str]:
    """Replace numbers and words of a text format, drop or repeat lines."""
    kind = rng.randrange(5)
    tokens = list(re.finditer(r"-?\d+(?:\.\d+)?|\w+", text))
    if kind < 3 and tokens:
        found = rng.choice(tokens)
        strange = [
            "-1",
            "0",
            "1e9",
            "NaN",
            "inf",
            "",
            "x",
            "9" * 30,
            "1.5",
            "&#0;",
            "'",
            "é",
            "<",
            '"',
        ]
        new = rng.choice(strange)
        text = text[: found.start()] + new + text[found.end() :]
        return text.encode(), f"{found[0]} became {new[:9]!r}"
    lines = re.split(r"(?<=[>\n])", text)
    at = rng.randrange(len(lines))
    changed = lines[:at] + [lines[at]] * rng.choice([0, 2, 2000]) + lines[at + 1 :]
    return "".join(changed).encode(), f"line {at} lost or repeated"
