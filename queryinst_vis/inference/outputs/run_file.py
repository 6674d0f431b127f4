"""The content of ``run.json``; ``formats.run_file`` reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import queryinst_vis
from queryinst_vis.checkpoints.catalogue import SHORT_NAMES, find_weights, shipped_weights
from queryinst_vis.errors import InputError
from queryinst_vis.formats.names import list_names
from queryinst_vis.formats.run_file import FORMAT, VERSION, fingerprint
from queryinst_vis.formats.track_store import TrackStore
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.utils.files import checksum
from queryinst_vis.video.source import Source


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run, for the record.

    Attributes:
        weights: name or file of the weights, or the name of a custom detector.
        options: settings that affect the results, as JSON values.
    """

    weights: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: TrackOptions) -> RunSettings:
        """The settings to record of a run with these options."""
        weights = options.weights
        if not isinstance(weights, str | Path):
            weights = getattr(weights, "__name__", type(weights).__name__)
        return cls(
            str(weights),
            {
                "score_threshold": options.conf,
                "classes": None if options.classes is None else list(options.classes),
                "iou": options.iou,
                "max_size": options.max_size,
                "overrides": list(options.overrides),
                **asdict(options.selection),
                "blur": list(options.redaction.blur),
                "cut_out": list(options.redaction.cut_out),
            },
        )

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights file; None if there is no file."""
        try:
            path = find_weights(self.weights)
            return _checksum(path, path.stat().st_mtime_ns)
        except (InputError, OSError):
            return None

    def about(self) -> dict[str, Any]:
        """The settings for file headers."""
        return {
            "weights": {"name": self.weights, "sha256": self.weights_sha256},
            "package": f"queryinst-vis {queryinst_vis.__version__}",
            "options": dict(self.options),
        }

    def hint(self, class_names: list[str]) -> str:
        """What to try if nothing was found."""
        others = [name for name in (*shipped_weights(), *SHORT_NAMES) if name != self.weights]
        threshold = self.options.get("score_threshold")
        lower = 0.1 if threshold is None else threshold / 2
        looked_for = self.options.get("classes")
        only = f" (restricted to {list_names(looked_for)})" if looked_for else ""
        return (
            f"nothing was found; these weights ({self.weights}) detect {list_names(class_names)}"
            f"{only}. Try other weights (--weights {' or '.join(others)}; 'queryinst-vis weights' "
            f"lists them) or a lower threshold (--conf {lower:g})"
        )


@lru_cache(maxsize=8)
def _checksum(path: Path, modified: int) -> str:
    """SHA-256 of a file, cached for all videos of a run.

    Args:
        path: the file.
        modified: its modification time in nanoseconds; a modified file is read again.
    """
    return checksum(path)


def found_by_class(tracks: TrackStore, class_names: list[str]) -> dict[str, int]:
    """Number of tracks by class name, most frequent first."""
    counts = Counter(class_names[track.label] for track in tracks)
    return dict(counts.most_common())


def run_record(
    settings: RunSettings,
    source: Source,
    origin: str,
    tracks: TrackStore,
    seconds: Mapping[str, float],
    found: Mapping[str, int],
    hint: str | None,
    files: list[str],
) -> dict[str, Any]:
    """The content of ``run.json``.

    Args:
        settings: settings of the run.
        source: the video.
        origin: hash of the source's origin, by which a later run recognises its own files.
        tracks: tracks of the video.
        seconds: seconds by stage.
        found: number of tracks by class name.
        hint: what to try if nothing was found.
        files: names of the other files.
    """
    height, width = tracks.frame_size
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": {
            "name": source.name,
            "origin": source.origin,
            "origin_sha256": origin,
            "fingerprint": None
            if source.is_live
            else fingerprint(source.path or Path(source.origin)),
            "width": width,
            "height": height,
            "fps": source.fps,
            "pixel_aspect": str(source.pixel_aspect),
            "is_live": source.is_live,
            "fault": source.fault,
            "first_frame": next(tracks.frame_numbers(), None),
            "frame_times": list(tracks.frame_times()) if source.fps is None else None,
        },
        **settings.about(),
        "frames": tracks.length,
        "tracks": len(tracks),
        "found": dict(found),
        "hint": hint,
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "files": files,
    }
