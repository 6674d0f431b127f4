"""What a run was asked for, and what a video of it was asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from queryinst_vis.drawing import DEFAULT_STYLE, NOTHING_HIDDEN, DrawingStyle, Redaction
from queryinst_vis.video.decoders import PYAV
from queryinst_vis.video.encoders import X264
from queryinst_vis.video.frames import ALL_FRAMES, Selection


@dataclass(frozen=True)
class VideoOptions:
    """The options of ``track`` for one video.

    Attributes:
        weights: name or file.
        conf, iou: thresholds, 0..1; None: what the weights ask for.
        classes: names or 0-based labels; None: all.
        max_size: pixels of the longer side of the network input; None: what the weights ask for.
        overrides: changes of config keys, ``key=value``.
        selection: which frames.
        decoder, fps, strict, allow_partial: as for ``video.source.open_source``.
        save: names of ``track --save``: files beside the tables.
        style, redaction: what those files show.
        encoder: of the videos among them, as for ``OutputPlan``.
    """

    weights: str = "people"
    conf: float | None = None
    iou: float | None = None
    classes: tuple[str | int, ...] | None = None
    max_size: int | None = None
    overrides: tuple[str, ...] = ()
    selection: Selection = ALL_FRAMES
    decoder: str = PYAV
    fps: float | None = None
    strict: bool = False
    allow_partial: bool = False
    save: tuple[str, ...] = ()
    style: DrawingStyle = DEFAULT_STYLE
    redaction: Redaction = NOTHING_HIDDEN
    encoder: str = X264

    def that_matter(self) -> dict[str, Any]:
        """What decides about the results, as values that JSON has, for the key of a video."""
        values = asdict(self)
        values["weights"] = None  # their checksum stands in for the name
        if not self.save:
            del values["style"], values["redaction"], values["encoder"]
        return values


@dataclass(frozen=True)
class RunOptions:
    """What holds for all videos of a run.

    Attributes:
        out: folder or address of the data set.
        batch: frames that the network sees at a time; short batches are filled up. With 1 results
            are the same to the last bit, whatever runs beside them; vectorised operators round the
            end of a tensor differently, so larger batches are the same to about 1e-6.
        streams: videos that advance at a time in one worker.
        threads: of a worker on a CPU.
        device: as for ``track``; ``"auto"`` gives each worker a GPU where there are some.
        attempts: of a video, before it counts as failed.
        decode_memory: bytes that the decoding of one video may take; None: no limit.
        decode_silence: seconds without a frame after which a decoder counts as hung.
        decode_time: seconds that the decoding of one video may take in all; None: no limit.
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

    def that_matter(self) -> dict[str, Any]:
        """What decides about the results to the last bit."""
        return {"batch": self.batch, "threads": self.threads}


@dataclass(frozen=True)
class Video:
    """One video of a run.

    Attributes:
        name: short, suits a file name, and differs from those of the others.
        address: what is opened; it may hold a password, so it is never written.
        origin: tells it from others, without secrets: an absolute path or an address.
        version: what tells that the content has changed: an ETag, or size and time of change.
        size: in bytes; None: unknown.
        options: of this video.
    """

    name: str
    address: str
    origin: str
    version: str
    size: int | None = None
    options: VideoOptions = field(default_factory=VideoOptions)
