"""Recall and precision of cut detection by ``tracking.cut_threshold``.

Random segments of 20 to 60 frames of real videos are concatenated, eight per clip: from different
sources, or from the same source (at least 20 frames apart). Prints recall and false positives of
each threshold for both, and the false positives in the sources themselves, which contain no cuts.
A source is a video file or a folder of images::

    python benchmarks/cuts.py clip.mp4 frames/0005 frames/0011 --thresholds 3 4 5
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from queryinst_vis.utils.images import read_image
from queryinst_vis.video import VideoReader
from queryinst_vis.video.cuts import CutDetector

THUMBNAIL = (64, 36)  # the size that the detector uses
SEGMENTS = 8  # per clip
LENGTHS = (20, 60)  # of a segment, in frames
MIN_DISTANCE = 20  # minimum number of frames between two segments of one source
IMAGES = {".jpg", ".jpeg", ".png"}


def main() -> None:
    """Build the clips, detect their cuts and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", type=Path, help="videos, and folders of frames")
    parser.add_argument("--thresholds", nargs="+", type=float, default=[3.0, 3.5, 4.0, 4.5, 5.0])
    parser.add_argument("--clips", type=int, default=60, help="clips of each kind (default: 60)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    sources = [thumbnails(source) for source in arguments.sources]
    rng = np.random.default_rng(arguments.seed)
    different = [join_different(rng, sources) for _ in range(arguments.clips)]
    same = [join_same(rng, sources) for _ in range(arguments.clips)]
    uncut = [(source, np.zeros(len(source), dtype=bool)) for source in sources]
    kinds = {"different sources": different, "one source": same, "no cuts": uncut}
    print("threshold  clips              frames  cuts  recall  false positives  precision")
    for threshold in arguments.thresholds:
        for kind, clips in kinds.items():
            detected = np.concatenate([detect(threshold, frames) for frames, _ in clips])
            cuts = np.concatenate([gt for _, gt in clips])
            tp, fp = int((detected & cuts).sum()), int((detected & ~cuts).sum())
            recall = f"{tp / cuts.sum():.3f}" if cuts.any() else "-"
            precision = f"{tp / (tp + fp):.3f}" if tp else "-"
            print(
                f"{threshold:<9}  {kind:17}  {len(cuts):6}  {cuts.sum():4}  {recall:>6}"
                f"  {fp:15}  {precision:>9}"
            )


def thumbnails(source: Path) -> np.ndarray:
    """``(T, 36, 64, 3)`` uint8 RGB frames of a video or a folder."""
    if source.is_dir():
        paths = sorted(path for path in source.iterdir() if path.suffix.lower() in IMAGES)
        frames = map(read_image, paths)
    else:
        frames = iter(VideoReader(source))
    return np.stack([cv2.resize(f, THUMBNAIL, interpolation=cv2.INTER_AREA) for f in frames])


def draw_segment(rng: np.random.Generator, source: np.ndarray) -> tuple[int, int]:
    """``(first, last + 1)`` frames of a random segment."""
    length = min(len(source), int(rng.integers(LENGTHS[0], LENGTHS[1] + 1)))
    first = int(rng.integers(0, len(source) - length + 1))
    return first, first + length


def join_different(
    rng: np.random.Generator, sources: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """A clip whose consecutive segments have different sources."""
    segments, last = [], -1
    while len(segments) < SEGMENTS:
        index = int(rng.integers(len(sources)))
        if index != last:
            first, end = draw_segment(rng, sources[index])
            segments.append(sources[index][first:end])
            last = index
    return join(segments)


def join_same(rng: np.random.Generator, sources: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A clip from a single, sufficiently long source."""
    long = [source for source in sources if len(source) >= LENGTHS[1] + MIN_DISTANCE]
    source = long[int(rng.integers(len(long)))]
    segments, last = [], None
    while len(segments) < SEGMENTS:
        first, end = draw_segment(rng, source)
        if last is None or abs(first - last) >= MIN_DISTANCE:
            segments.append(source[first:end])
            last = end
    return join(segments)


def join(segments: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The frames, and for each whether it starts a segment other than the first."""
    gt = np.zeros(sum(map(len, segments)), dtype=bool)
    gt[np.cumsum([len(segment) for segment in segments[:-1]])] = True
    return np.concatenate(segments), gt


def detect(threshold: float, frames: np.ndarray) -> np.ndarray:
    """``(T,)`` bool: the detected cuts."""
    detector = CutDetector(threshold)
    return np.array([detector.is_cut(frame) for frame in frames])


if __name__ == "__main__":
    main()
