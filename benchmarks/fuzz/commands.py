"""Commands to kill, and their results without interruption."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fuzz.session import run_main


@dataclass(frozen=True)
class Command:
    """A command to kill.

    Attributes:
        text: its command line; ``{samples}`` is the folder of valid inputs.
        outputs: files and folders that are identical in every successful run.
        resumes: whether the next run resumes a killed one.
    """

    text: str
    outputs: tuple[str, ...]
    resumes: bool = False

    def words(self, samples: Path) -> list[str]:
        """The command line."""
        return [word.format(samples=samples) for word in self.text.split()]


_TRACK = (
    "track {samples}/video/plain.mp4 --weights {samples}/tiny.safetensors --out out --device cpu"
)
COMMANDS = {
    "train": Command(
        "train {samples}/config.yaml data.num_workers=1 --work-dir run --devices 1",
        ("run/final.safetensors", "run/best.safetensors", "run/last.ckpt"),
        resumes=True,
    ),
    "track": Command(_TRACK, ("out/results.json",)),
    "live": Command(f"{_TRACK} --live", ()),
    "test-video": Command(
        "test-video {samples}/config.yaml {samples}/tiny.safetensors --out r.json --zip r.zip "
        "--devices 1",
        ("r.json",),
    ),
    "to-mots": Command(
        "convert-dataset to-mots {samples}/set/videos.json mots --images {samples}/set "
        "--class box=car --class crate=person --class unknown=none",
        ("mots",),
    ),
    "youtube-vis": Command(
        "convert-dataset youtube-vis {samples}/set/videos.json o.json --coco c.json",
        ("o.json", "c.json"),
    ),
    "coco-video": Command(
        "convert-dataset coco-video {samples}/coco/images.json {samples}/coco video --frames 4",
        ("video",),
    ),
    "split": Command(
        "data split {samples}/set/videos.json a.json b.json --fraction 0.5", ("a.json", "b.json")
    ),
    "diagnose": Command(
        "diagnose {samples}/set/videos.json {samples}/results.json --out why",
        ("why/report.json", "why/errors.png"),
    ),
    "checkpoint": Command(
        "convert-checkpoint {samples}/checkpoint/queryinst.pth o.safetensors", ("o.safetensors",)
    ),
}


def measure(name: str, samples: Path) -> None:
    """Run a command without interruption, and store its outputs and duration as samples."""
    folder = samples / "reference" / name
    folder.mkdir(parents=True)
    os.chdir(folder)
    begin = time.monotonic()
    status = run_main(COMMANDS[name].words(samples))
    assert status == 0, f"{name}: exit status {status}"
    missing = [output for output in COMMANDS[name].outputs if not Path(output).exists()]
    assert not missing, f"{name}: no {missing}"
    (folder / "seconds.json").write_text(json.dumps(time.monotonic() - begin))
