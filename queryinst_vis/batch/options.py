"""Options of a run and of its videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from queryinst_vis.batch.segments import Cutting, Part
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.video.decoders import PYAV
from queryinst_vis.video.frames import Selection

ANY_GPU = ("auto", "cuda")
"""Values of ``--device`` that assign one GPU to each worker, if there are any."""


def is_single_device(device: str) -> bool:
    """Whether ``--device`` names one GPU or another accelerator, which workers would share."""
    return device not in (*ANY_GPU, "cpu")


@dataclass(frozen=True)
class VideoOptions(TrackOptions):
    """Options of one video: those of ``track``, and how to open the file.

    Attributes:
        weights: name or file.
        save: output files in addition to the tables.
        decoder, fps, strict, allow_partial: as for ``video.source.open_source``.
    """

    weights: str = "people"
    save: Sequence[str] = ()
    decoder: str = PYAV
    fps: float | None = None
    strict: bool = False
    allow_partial: bool = False

    def key_parts(self) -> dict[str, Any]:
        """The options that affect the results, as JSON values, for the key of a video."""
        values = asdict(self)
        values["weights"] = None  # their checksum is part of the key instead
        if not self.save:
            del values["style"], values["redaction"], values["encoder"]
        return values


@dataclass(frozen=True)
class RunOptions:
    """Settings common to all videos of a run.

    Attributes:
        out: folder or URI of the data set.
        batch: batch size in frames; short batches are padded. Results are bit-identical with
            batch size 1, and agree to about 1e-6 with larger ones, since vectorised operators
            round the end of a tensor differently.
        streams: number of videos that a worker tracks concurrently.
        threads: CPU threads per worker.
        device: as for ``track``; those of ``ANY_GPU`` assign one GPU to each worker if there are
            any.
        attempts: maximum number of attempts per video.
        decode_memory: memory limit of a decoder in bytes; None: no limit.
        decode_silence: seconds without a frame after which a decoder counts as hung.
        decode_time: limit of the time, in seconds, that tracking waits for the decoder of a video
            or a segment; None: no limit.
        cutting: how to cut long videos; None: do not cut them.
    """

    out: str
    batch: int = 1
    streams: int = 1
    threads: int = 1
    device: str = "auto"
    attempts: int = 2
    decode_memory: int | None = 4 << 30
    decode_silence: float = 120.0
    decode_time: float | None = None
    cutting: Cutting | None = None

    def key_parts(self) -> dict[str, Any]:
        """The settings on which results depend bit for bit, likewise."""
        values: dict[str, Any] = {"batch": self.batch, "threads": self.threads}
        if self.cutting is not None:
            values["cutting"] = asdict(self.cutting)
        return values


@dataclass(frozen=True)
class Video:
    """One video of a run.

    Attributes:
        name: short and unique, usable as a file name.
        address: path or URL to open; never written to files, as it may contain credentials.
        origin: identifies the video: an absolute path, or a URL without credentials.
        version: identifies the content: an ETag, or size and modification time.
        size: in bytes; None: unknown.
        options: of this video.
        part: the work item, if the video has been cut; None: the whole video.
    """

    name: str
    address: str
    origin: str
    version: str
    size: int | None = None
    options: VideoOptions = field(default_factory=VideoOptions)
    part: Part | None = None

    @property
    def whole(self) -> Video:
        """The video without its part."""
        return self if self.part is None else replace(self, part=None)

    @property
    def selection(self) -> Selection:
        """The frames to track: those of the options, or of the segment."""
        chosen = self.options.selection
        segment = None if self.part is None else self.part.segment
        if segment is None:
            return chosen
        return Selection(start_frame=segment.first, end_frame=segment.stop, stride=chosen.stride)
