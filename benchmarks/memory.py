"""Memory of ``track`` on a long video: checks that it does not grow with the number of frames.

The input is an mp4 of 160x96 pixels with scenes of moving shapes, 50 frames each, repeated after 20
scenes. ``track_video`` tracks it with the weights ``shapes`` and writes the annotated mp4,
results.json and timeline.png, all in this process. Prints the resident memory (RSS) at frame 500,
every 1,000 frames and at the end, and the growth of its maximum after frame 500, including writing
the results and drawing the timeline; exit status 1 if it exceeds 32 MiB::

    OMP_NUM_THREADS=1 python benchmarks/memory.py            # 10,000 frames, some minutes
    python benchmarks/memory.py --frames 2000 --json out/memory.json
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from queryinst_vis.data.synthetic import SyntheticSettings
from queryinst_vis.data.synthetic.render import render
from queryinst_vis.data.synthetic.scene import draw_scene
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference import track
from queryinst_vis.inference.outputs import writing
from queryinst_vis.utils.files import write_json_atomically
from queryinst_vis.video import VideoWriter

LIMIT = 32.0  # MiB
FIRST, STEP = 500, 1000  # frames
SCENES = SyntheticSettings(videos=20, frames=50, width=160, height=96)


def main() -> int:
    """Run the benchmark; return the exit status."""
    arguments = _parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        video = Path(name) / "shapes.mp4"
        _write_video(video, arguments.frames)
        monitor = MemoryMonitor()
        with monitor, mock.patch.object(writing, "TrackStore", monitor.store):
            summary = track.track_video(
                video,
                Path(name) / "out",
                "shapes",
                score_threshold=0.05,  # many detections and many short tracks
                max_size=max(SCENES.width, SCENES.height),
            )
        sizes = {path.name: path.stat().st_size for path in summary.files}
    monitor.readings["end"] = _rss()
    growth = monitor.peak - monitor.readings[str(FIRST)]
    _print(monitor, growth, summary, sizes)
    if arguments.json is not None:
        content = {
            "frames": summary.frames,
            "tracks": summary.tracks,
            "seconds": summary.seconds,
            "rss_mib": monitor.readings,
            "peak_after_first_mib": monitor.peak,
            "growth_mib": growth,
            "output_bytes": sizes,
            "threads": os.environ.get("OMP_NUM_THREADS"),
        }
        write_json_atomically(arguments.json, content)
    return int(growth > LIMIT)


class MemoryMonitor:
    """Records the memory of the process at given frames, and its maximum after the first of them.

    Attributes:
        readings: MiB by frame number.
        peak: maximum since frame ``FIRST`` in MiB, sampled twenty times per second.
    """

    def __init__(self) -> None:
        self.readings: dict[str, float] = {}
        self.peak = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample_peak, daemon=True)

    def __enter__(self) -> MemoryMonitor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def store(self) -> TrackStore:
        """A TrackStore that records the memory at the given frames."""
        monitor = self

        class MonitoredStore(TrackStore):
            def add(self, *frame: Any) -> None:
                super().add(*frame)
                if self.length == FIRST or self.length % STEP == 0:
                    monitor.readings[str(self.length)] = _rss()

        return MonitoredStore()

    def _sample_peak(self) -> None:
        while not self._done.wait(0.05):
            if str(FIRST) in self.readings:
                self.peak = max(self.peak, _rss())


def _write_video(path: Path, frames: int) -> None:
    scenes = []
    for number in range(SCENES.videos):
        scene = draw_scene(SCENES, np.random.default_rng([0, number]))
        rendered = render(scene, SCENES.frames, SCENES.height, SCENES.width)
        scenes += [frame.image for frame in rendered]
    with VideoWriter(path, SCENES.fps) as writer:
        for index in range(frames):
            writer.write(scenes[index % len(scenes)])


def _rss() -> float:
    """Resident memory of this process in MiB."""
    return psutil.Process().memory_info().rss / 2**20


def _print(
    monitor: MemoryMonitor, growth: float, summary: track.TrackSummary, sizes: dict[str, int]
) -> None:
    table = Table("frame", "RSS MiB", "since frame 500")
    for frame, rss in monitor.readings.items():
        table.add_row(frame, f"{rss:.1f}", f"{rss - monitor.readings[str(FIRST)]:+.1f}")
    console = Console(soft_wrap=True)
    console.print(table)
    files = ", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in sizes.items())
    console.print(
        f"{summary.tracks} tracks in {summary.frames} frames, {summary.seconds:.0f} s: {files}"
    )
    verdict = "within" if growth <= LIMIT else "ABOVE"
    console.print(
        f"peak {growth:.1f} MiB above frame {FIRST}, {verdict} the limit of {LIMIT:.0f} MiB"
    )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures as JSON")
    arguments = parser.parse_args()
    if arguments.frames <= FIRST:
        parser.error(f"--frames must be above {FIRST}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
