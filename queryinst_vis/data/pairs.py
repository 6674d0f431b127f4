"""One training sample: an image, a pseudo-clip of an image, or one or two frames of a video."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from queryinst_vis.config import InputConfig
from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.frames import Frame, apply_view, load_pixels
from queryinst_vis.data.views import View, draw_pseudo_clip, draw_view
from queryinst_vis.data.youtube_vis import VideoRecord, YouTubeVisDataset
from queryinst_vis.formats.annotations import ImageRecord


@dataclass(frozen=True)
class SampleOptions:
    """How samples are made of a set.

    Attributes:
        input: augmentation.
        paired: samples are pairs of key and reference; else single frames.
        keep_empty: images and frames without a trainable instance are samples too, if they
            show negatives (see ``shows_negatives``).
        ignore: frames have their ignored regions.
    """

    input: InputConfig
    paired: bool
    keep_empty: bool = False
    ignore: bool = False


class Samples(ABC):
    """The samples of one set, by index."""

    def __init__(self, options: SampleOptions) -> None:
        self._options = options

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def origin(self, index: int) -> int:
        """The image or video that sample ``index`` is of."""

    @abstractmethod
    def record(self, index: int) -> ImageRecord:
        """The image, or key frame, of sample ``index`` and its instances."""

    @abstractmethod
    def _views(self, index: int, rng: np.random.Generator) -> list[View]:
        """The view of each frame of a sample."""

    @abstractmethod
    def _records(self, index: int, rng: np.random.Generator) -> list[ImageRecord]:
        """The image of each frame of a sample, drawn after the views."""

    def draw(self, index: int, rng: np.random.Generator) -> list[Frame]:
        """Sample ``index`` as ``[frame]``, or as ``[key, reference]``.

        Raises:
            InputError: an image or a segmentation cannot be read.
        """
        views = self._views(index, rng)
        records = self._records(index, rng)
        images = {
            path: load_pixels(record) for path, record in {r.path: r for r in records}.items()
        }
        return [
            apply_view(images[record.path], record, view, self._options.ignore)
            for record, view in zip(records, views, strict=True)
        ]

    def shape(self, index: int, rng: np.random.Generator) -> tuple[int, int]:
        """``(height, width)`` that the frames of ``draw`` need, from the same random numbers."""
        views = self._views(index, rng)
        return max(view.height for view in views), max(view.width for view in views)


class ImageSamples(Samples):
    """Samples from still images; a pair is a pseudo-clip of one image.

    A pseudo-clip is two random views of the image with shared instance ids, from which the
    track head learns as from two frames.
    """

    def __init__(self, dataset: CocoDataset, options: SampleOptions) -> None:
        super().__init__(options)
        self._images = [
            image
            for image in dataset.images
            if image.instances or (options.keep_empty and shows_negatives(image, options.ignore))
        ]

    def __len__(self) -> int:
        return len(self._images)

    def origin(self, index: int) -> int:
        """The image of sample ``index``."""
        return index

    def record(self, index: int) -> ImageRecord:
        """The image of sample ``index`` and its instances."""
        return self._images[index]

    def _views(self, index: int, rng: np.random.Generator) -> list[View]:
        record = self._images[index]
        if self._options.paired:
            return draw_pseudo_clip(rng, record.height, record.width, self._options.input)
        return [draw_view(rng, record.height, record.width, self._options.input)]

    def _records(self, index: int, rng: np.random.Generator) -> list[ImageRecord]:
        return [self._images[index]] * (2 if self._options.paired else 1)


class VideoSamples(Samples):
    """Samples from videos; every frame that shows a trainable instance is a key frame once.

    The reference frame of a pair is drawn uniformly from the other such frames of the video, at
    most ``max_frame_gap`` away; a lone frame is its own reference. Both frames share one view:
    size, flip, crop and colours (paper 3.5 keeps MaskTrack R-CNN's pipeline).
    """

    def __init__(self, dataset: YouTubeVisDataset, options: SampleOptions) -> None:
        super().__init__(options)
        self._videos = [(video, video.annotated_frames()) for video in dataset.videos]
        self._keys = [
            (number, frame)
            for number, (video, annotated) in enumerate(self._videos)
            for frame in (_key_frames(video, options.ignore) if options.keep_empty else annotated)
        ]

    def __len__(self) -> int:
        return len(self._keys)

    def origin(self, index: int) -> int:
        """The video of sample ``index``."""
        return self._keys[index][0]

    def record(self, index: int) -> ImageRecord:
        """The key frame of sample ``index`` and the instances that it shows."""
        number, key = self._keys[index]
        return self._videos[number][0].frame(key)

    def _views(self, index: int, rng: np.random.Generator) -> list[View]:
        video, _ = self._videos[self.origin(index)]
        view = draw_view(rng, video.height, video.width, self._options.input)
        return [view] * (2 if self._options.paired else 1)

    def _records(self, index: int, rng: np.random.Generator) -> list[ImageRecord]:
        number, key = self._keys[index]
        video, annotated = self._videos[number]
        frames = [key]
        if self._options.paired:
            max_gap = self._options.input.max_frame_gap
            frames.append(draw_reference(rng, key, annotated, max_gap))
        return [video.frame(frame) for frame in frames]


def shows_negatives(record: ImageRecord, ignore: bool) -> bool:
    """Whether an image without an instance teaches what no instance looks like.

    One that shows a crowd would teach that a crowd is background, unless crowds are ignored.
    """
    return ignore or not record.ignored


def _key_frames(video: VideoRecord, ignore: bool) -> list[int]:
    """Frames that show an instance, or none and negatives."""
    return [
        frame
        for frame, record in enumerate(map(video.frame, range(len(video))))
        if record.instances or shows_negatives(record, ignore)
    ]


def draw_reference(
    rng: np.random.Generator, key: int, annotated: list[int], max_gap: int | None
) -> int:
    """Draw the reference of frame ``key``: uniform over the other ``annotated`` frames.

    Args:
        rng: source of the draw.
        key: index of the key frame.
        annotated: indices of the frames that show something.
        max_gap: greatest distance from the key frame, or None for the whole video.

    Returns:
        A frame index; ``key`` itself where no other frame qualifies.
    """
    others = [
        frame
        for frame in annotated
        if frame != key and (max_gap is None or abs(frame - key) <= max_gap)
    ]
    return others[rng.integers(len(others))] if others else key
