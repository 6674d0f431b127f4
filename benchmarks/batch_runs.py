"""Clips, processes and tables for the benchmarks of `queryinst-vis batch`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pyarrow import parquet

from queryinst_vis.batch.tables import TIMES
from queryinst_vis.data.synthetic import SyntheticSettings
from queryinst_vis.data.synthetic.render import render
from queryinst_vis.data.synthetic.scene import draw_scene
from queryinst_vis.video import VideoWriter

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ("--weights", "shapes", "--device", "cpu")


@dataclass(frozen=True)
class ClipSettings:
    """Properties of synthetic clips; ``frames`` is the minimum and maximum length."""

    frames: tuple[int, int] = (10, 20)
    width: int = 96
    height: int = 64
    fps: int = 10


def write_clips(folder: Path, count: int, settings: ClipSettings) -> list[Path]:
    """Write clips of moving shapes, ``0000.mp4``, ..., unless they exist already."""
    random = np.random.default_rng(0)
    lengths = random.integers(settings.frames[0], settings.frames[1] + 1, count)
    paths = [folder / f"{number:04d}.mp4" for number in range(count)]
    for number, (path, frames) in enumerate(zip(paths, lengths, strict=True)):
        if not path.exists():
            write_clip(path, number, int(frames), settings)
    return paths


def write_clip(path: Path, number: int, frames: int, settings: ClipSettings) -> None:
    """Write a clip of the scene with the seed ``number``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = SyntheticSettings(width=settings.width, height=settings.height, fps=settings.fps)
    scene = draw_scene(size, np.random.default_rng([1, number]))
    with VideoWriter(path, settings.fps) as writer:
        for frame in render(scene, frames, settings.height, settings.width):
            writer.write(frame.image)


def write_manifest(path: Path, videos: Sequence[Path]) -> Path:
    """Write a manifest of videos in this order."""
    path.write_text("path\n" + "".join(f"{video}\n" for video in videos))
    return path


def start_command(words: Sequence[str | Path], log: Path, **environment: str) -> psutil.Popen:
    """Start `queryinst-vis` with one thread, and append its output to ``log``."""
    return start_python(["-m", "queryinst_vis", *words], log, **environment)


def start_python(words: Sequence[str | Path], log: Path, **environment: str) -> psutil.Popen:
    """Start Python in the same way."""
    command = [sys.executable, *map(str, words)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment}
    with log.open("ab") as output:
        return psutil.Popen(
            command, env={**os.environ, **settings}, stdout=output, stderr=subprocess.STDOUT
        )


def processes_of(driver: psutil.Process) -> dict[str, list[psutil.Process]]:
    """The descendants of a driver by kind: worker, decoder, and processes of Ray."""
    found = defaultdict(list)
    for process in driver.children(recursive=True):
        try:
            words = " ".join(process.cmdline())
            above = " ".join(parent.cmdline()) if (parent := process.parent()) else ""
        except psutil.Error:  # it has exited
            continue
        if "forkserver" in words and "forkserver" in above:
            found["decoder"].append(process)
        elif "spawn_main" in words or words.startswith("ray::_Actor"):
            found["worker"].append(process)
        elif words.startswith("ray::_SharedDispatcher"):
            found["dispatcher"].append(process)
        elif Path(words.split(" ")[0]).name in ("raylet", "gcs_server"):
            found[Path(words.split(" ")[0]).name].append(process)
    return found


def tables_of(out: Path) -> dict[str, Any]:
    """The reproducible content of a data set, by file.

    Bytes of ``tracks`` and ``detections``, and rows of ``videos`` without times.
    """
    content: dict[str, Any] = {}
    for table in ("tracks", "detections"):
        for path in (out / table).glob("*.parquet"):
            content[f"{table}/{path.name}"] = path.read_bytes()
    for path in (out / "videos").glob("*.parquet"):
        rows = parquet.read_table(path).to_pylist()
        content[f"videos/{path.name}"] = [
            {name: value for name, value in row.items() if name not in TIMES} for row in rows
        ]
    return content


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Names of files that differ, or that only one data set has."""
    return sorted(
        name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
    )


def rows_of(out: Path, table: str) -> list[dict[str, Any]]:
    """All rows of a table."""
    paths = sorted((out / table).glob("*.parquet"))
    return [row for path in paths for row in parquet.read_table(path).to_pylist()]
