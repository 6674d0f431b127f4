"""Latency and memory of the review server on a long video.

The first run creates an hour of 1280x720 (one minute repeated by stream copy, a key frame every two
seconds) with 200 synthetic tracks in the folder::

    python -m benchmarks.review_server FOLDER [--minutes 60] [--tracks 200]
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil

from benchmarks.review_inputs import write_tracks, write_video

JUMPS, STEPS = 60, 60  # requests of random and of neighbouring frames


def main() -> None:
    """Parse the arguments, measure and print the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--tracks", type=int, default=200)
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "hour.mp4").exists():
        write_video(folder / "hour.mp4", arguments.minutes)
    if not (folder / "tracks.jsonl").exists():
        write_tracks(folder / "tracks.jsonl", arguments.minutes, arguments.tracks)
    results = {}
    for name in ("first start", "later start"):
        server = _Server(folder)
        results[name] = server.measure()
        server.stop()
    print(json.dumps(results, indent=1))


class _Server:
    def __init__(self, folder: Path) -> None:
        self._start = time.perf_counter()
        command = [sys.executable, "-m", "queryinst_vis", "review", str(folder), "--port", "0"]
        command += ["--video", str(folder / "hour.mp4")]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._usage = psutil.Process(self._process.pid)
        assert self._process.stdout is not None
        found = re.search(r"http://\S+", self._process.stdout.readline())
        assert found is not None
        address = urlsplit(found[0])
        self._connection = http.client.HTTPConnection("127.0.0.1", address.port)
        token = address.query.partition("=")[2]
        self._headers = {"Cookie": f"queryinst-vis-review-{address.port}={token}"}

    def measure(self) -> dict[str, object]:
        """Wall and CPU time until the page is ready, and per frame; resident memory."""
        count = json.loads(self._get("/review"))["count"]
        self._get("/frame/0")
        ready = self._elapsed()
        self._get("/picture/0?width=1280")
        figures: dict[str, object] = {"page ready, s": ready, "first picture, s": self._elapsed()}
        choose = random.Random(0)
        frames = [choose.randrange(count) for _ in range(JUMPS)]
        figures["any frame, ms"] = self._percentiles(frames)
        start = choose.randrange(count - STEPS)
        self._get(f"/picture/{start}?width=1280")
        steps = [*range(start + 1, start + STEPS), *range(start + STEPS - 2, start, -1)]
        figures["neighbouring frames, ms"] = self._percentiles(steps)
        figures["memory, MB"] = round(self._usage.memory_info().rss / 1e6)
        return figures

    def stop(self) -> None:
        """Stop the server."""
        self._process.terminate()
        self._process.wait()

    def _get(self, path: str) -> bytes:
        self._connection.request("GET", path, headers=self._headers)
        response = self._connection.getresponse()
        content = response.read()
        assert response.status == 200, content
        return content

    def _elapsed(self) -> dict[str, float]:
        spent = self._usage.cpu_times()
        wall = time.perf_counter() - self._start
        return {"wall": round(wall, 2), "cpu": round(spent.user + spent.system, 2)}

    def _percentiles(self, frames: list[int]) -> dict[str, float]:
        """Wall time per frame (image and regions), and mean CPU time, in ms."""
        wall, before = [], self._usage.cpu_times()
        for frame in frames:
            start = time.perf_counter()
            self._get(f"/picture/{frame}?width=1280")
            self._get(f"/frame/{frame}")
            wall.append(1000 * (time.perf_counter() - start))
        after = self._usage.cpu_times()
        cpu = 1000 * (after.user + after.system - before.user - before.system) / len(frames)
        median, high = np.percentile(wall, (50, 95))
        return {"median": round(median, 1), "p95": round(high, 1), "mean cpu": round(cpu, 1)}


if __name__ == "__main__":
    main()
