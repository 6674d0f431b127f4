"""Videos and images that are corrupted, inconsistent, or of another kind."""

from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path

from benchmarks.fuzz.blobs import corrupt_bytes
from benchmarks.fuzz.case import Case, Context
from benchmarks.fuzz.samples import CLIPS, FRAMES

SMALL = ["--max-size", "64", "--device", "cpu"]

TRACK_FILES = ("results.json", "tracks.jsonl", "timeline.png", "run.json")
"""Files of ``track`` in addition to the annotated video."""


def track(context: Context) -> Case:
    """``track`` on a corrupted clip; frames must not be lost silently."""
    path, note = _corrupt_clip(context)
    words = [
        "track",
        path.name,
        "--weights",
        str(context.samples / "tiny.safetensors"),
        "--out",
        "out",
    ]
    options = [[], [], ["--stride", "3"], ["--max-frames", "2"], ["--batch", "3"]]
    chosen = context.random.choice(options)
    outputs = [f"out/{path.stem}.mp4", *(f"out/{name}" for name in TRACK_FILES)]
    return Case(
        [*words, *SMALL, *chosen],
        f"{note} {' '.join(chosen)}".strip(),
        outputs,
        check=None
        if chosen[:1] not in ([], ["--batch"])
        else lambda: _lost_frames(path, outputs[1], note),
    )


def track_live(context: Context) -> Case:
    """``track --live`` on a corrupted clip."""
    path, note = _corrupt_clip(context)
    words = ["track", path.name, "--live", "--weights", str(context.samples / "tiny.safetensors")]
    outputs = [f"out/{path.stem}.mp4", *(f"out/{name}" for name in TRACK_FILES)]
    return Case([*words, "--out", "out", *SMALL], note, outputs)


def _corrupt_clip(context: Context) -> tuple[Path, str]:
    name = context.random.choice(sorted(CLIPS))
    data = (context.samples / "video" / name).read_bytes()
    corrupt = (
        _corrupt_box_field
        if name.endswith(("mp4", "mov")) and context.random.random() < 0.4
        else corrupt_bytes
    )
    data, note = corrupt(data, context.random)
    suffix = (
        Path(name).suffix
        if context.random.random() < 0.9
        else context.random.choice([".mp4", ".ts", ""])
    )
    path = context.folder / f"clip{suffix}"
    path.write_bytes(data)
    return path, f"{name}{'' if suffix == Path(name).suffix else f' as {path.name}'}: {note}"


def _corrupt_box_field(data: bytes, rng) -> tuple[bytes, str]:
    """Change a field of an mp4 box that players trust: times, counts, matrices, edit lists."""
    boxes = [
        b"mvhd",
        b"tkhd",
        b"elst",
        b"mdhd",
        b"stts",
        b"stss",
        b"stsz",
        b"stco",
        b"stsc",
        b"ctts",
    ]
    boxes += [b"avcC", b"stsd", b"avc1", b"trun", b"tfhd", b"trex", b"hdlr", b"moov", b"mdat"]
    present = [box for box in boxes if box in data]
    if not present:
        return corrupt_bytes(data, rng)
    box = rng.choice(present)
    at = data.index(box) + 4 * rng.randrange(-1, 12)
    value = rng.choice([0, 1, 2, 7, 1000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF, 0x40000000])
    changed = data[:at] + struct.pack(">I", value) + data[at + 4 :]
    return changed, f"{box.decode()} at {at - data.index(box)}: {value}"


def _lost_frames(path: Path, results: str, note: str) -> str | None:
    """Check that the results have all frames, or that standard error reports missing ones.

    The reference count is FFmpeg's: the pictures that a decoder yields when faulty packets are
    skipped, as in players; or, for a truncated but otherwise valid file, all pictures.
    """
    entries = json.loads(Path(results).read_text())
    if not entries or "warning" in (path.parent.parent / "stderr.txt").read_text(errors="replace"):
        return None
    found = len(entries[0]["segmentations"])
    is_cut = re.fullmatch(r"\S+: cut at \d+ of \d+", note)
    shown = FRAMES if is_cut else _count_frames(path)
    return f"{found} of {shown} frames without a warning" if found < shown else None


def _count_frames(path: Path) -> int:
    import av

    count = 0
    try:
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            stream = container.streams.best("video")
            stream.thread_type = "NONE"
            for packet in container.demux(stream):
                try:
                    count += len(packet.decode())
                except av.FFmpegError:
                    continue
    except av.FFmpegError:
        pass
    return count


def image(context: Context) -> Case:
    """A corrupted image for the commands that read single images, and for the library."""
    path, note = _corrupt_image(context, context.folder)
    if context.random.random() < 0.5:
        from queryinst_vis.utils.images import read_image

        return Case(lambda: _check_pixels(read_image(path)), f"read_image {note}")
    words = [
        "plot-mask-features",
        path.name,
        "--weights",
        str(context.samples / "tiny.safetensors"),
    ]
    return Case([*words, "--out", "out.png", "--device", "cpu"], note, ["out.png"])


def _check_pixels(pixels) -> None:
    import numpy as np

    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3, pixels.shape
    assert min(pixels.shape) > 0


def _corrupt_image(context: Context, folder: Path) -> tuple[Path, str]:
    name = context.random.choice(
        sorted(path.name for path in (context.samples / "image").iterdir())
    )
    data, note = corrupt_bytes((context.samples / "image" / name).read_bytes(), context.random)
    path = folder / name
    path.write_bytes(data)
    return path, f"{name}: {note}"


IN_SETS = {
    "data validate data/{file} --images data --json f.json": "f.json",
    "data browse data/{file} --images data --out sheet.jpg": "sheet.jpg",
    "{test} {config} {weights} {data} --out out.json --devices 1": "out.json",
    "train {config} {data} train.max_steps=1 --work-dir run --devices 1": "run",
}
"""Commands that read the images of a set, and their outputs."""


def image_in_set(context: Context) -> Case:
    """A corrupted, wrong, exchanged or missing frame among the images of a set."""
    videos = context.random.random() < 0.5
    shutil.copytree(context.samples / ("set" if videos else "coco"), context.folder / "data")
    victim = context.random.choice(sorted((context.folder / "data").rglob("*.png")))
    note = _corrupt_frame(context, victim)
    text, outputs = context.random.choice(sorted(IN_SETS.items()))
    annotations = "videos.json" if videos else "images.json"
    values = {
        "file": annotations,
        "test": "test-video" if videos else "test-image",
        "config": context.samples / ("config.yaml" if videos else "image_config.yaml"),
        "weights": context.samples / ("tiny.safetensors" if videos else "image.safetensors"),
    }
    data = [
        f"data.{part}.{key}"
        for part in ("train", "val", "test")
        for key in (f"annotations=data/{annotations}", "images=data")
    ]
    words = []
    for word in text.split():
        words += data if word == "{data}" else [word.format(**values)]
    return Case(words, note, outputs.split(), ["f.json", "run/*"])


def _corrupt_frame(context: Context, victim: Path) -> str:
    kind = context.random.randrange(4)
    if kind == 0:
        victim.unlink()
        return f"{victim.name} is missing"
    if kind == 1:
        other = context.random.choice(sorted((context.samples / "image").iterdir()))
        shutil.copy(other, victim)
        return f"{victim.name} is {other.name}"
    if kind == 2:
        victim.unlink()
        victim.mkdir()
        return f"{victim.name} is a folder"
    data, note = corrupt_bytes(victim.read_bytes(), context.random)
    victim.write_bytes(data)
    return f"{victim.name}: {note}"
