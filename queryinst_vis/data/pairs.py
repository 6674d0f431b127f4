"""One training sample: an image, a pseudo-clip of an image, or one or two frames of a video."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from queryinst_vis.config import InputConfig
from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.frames import Frame, apply_view, load_pixels
from queryinst_vis.data.records import ImageRecord
from queryinst_vis.data.views import View, draw_pseudo_clip, draw_view
from queryinst_vis.data.youtube_vis import VideoRecord, YouTubeVisDataset


@dataclass(frozen=True)
class SampleOptions:
    """Options for making samples from a set.

    Attributes:
        input: augmentation.
        paired: samples are pairs of key and reference; otherwise single frames.
        keep_empty: also use images and frames without instances if they are valid
            negatives (see ``shows_negatives``).
        ignore: frames have ignore regions.
    """

    input: InputConfig
    paired: bool
    keep_empty: bool = False
    ignore: bool = False


class Samples(ABC):
    """The samples of one set, by index; each comes from an image or a key frame of a video.

    Args:
        keys: index of the image and 0, or of the video and key frame, of each sample.
        options: options for making samples.
    """

    def __init__(self, keys: list[tuple[int, int]], options: SampleOptions) -> None:
        self._keys = keys
        self._options = options

    def __len__(self) -> int:
        return len(self._keys)

    def origin(self, index: int) -> int:
        """Index of the image or video of sample ``index`` in the set."""
        return self._keys[index][0]

    def record(self, index: int) -> ImageRecord:
        """The image, or key frame, of sample ``index`` and its instances."""
        return self._record(*self._keys[index])

    def draw(self, index: int, rng: np.random.Generator) -> list[Frame]:
        """Sample ``index`` as ``[frame]``, or as ``[key, reference]``.

        Raises:
            InputError: an image or a segmentation cannot be read.
        """
        number, key = self._keys[index]
        views = self._views(number, rng)
        places = [key, self._reference(number, key, rng)] if self._options.paired else [key]
        records = {place: self._record(number, place) for place in places}
        images = {place: load_pixels(record) for place, record in records.items()}
        return [
            apply_view(images[place], records[place], view, self._options.ignore)
            for place, view in zip(places, views, strict=True)
        ]

    def shape(self, index: int, rng: np.random.Generator) -> tuple[int, int]:
        """``(height, width)`` of the frames that ``draw`` returns for the same random numbers."""
        views = self._views(self.origin(index), rng)
        return max(view.height for view in views), max(view.width for view in views)

    @abstractmethod
    def _record(self, number: int, frame: int) -> ImageRecord:
        """A frame of image or video ``number``."""

    @abstractmethod
    def _views(self, number: int, rng: np.random.Generator) -> list[View]:
        """The view of each frame of a sample."""

    @abstractmethod
    def _reference(self, number: int, key: int, rng: np.random.Generator) -> int:
        """The reference frame of key frame ``key``, sampled after the views."""


class ImageSamples(Samples):
    """Samples from still images; a pair is a pseudo-clip of one image.

    A pseudo-clip consists of two random views of the image with shared instance ids, which train
    the track head like two frames.
    """

    def __init__(self, dataset: CocoDataset, options: SampleOptions) -> None:
        self._images = dataset.images
        keys = [
            (number, 0)
            for number, image in enumerate(dataset.images)
            if image.instances or (options.keep_empty and shows_negatives(image, options.ignore))
        ]
        super().__init__(keys, options)

    def _record(self, number: int, frame: int) -> ImageRecord:
        return self._images[number]

    def _views(self, number: int, rng: np.random.Generator) -> list[View]:
        height, width = self._images[number].height, self._images[number].width
        if self._options.paired:
            return draw_pseudo_clip(rng, height, width, self._options.input)
        return [draw_view(rng, height, width, self._options.input)]

    def _reference(self, number: int, key: int, rng: np.random.Generator) -> int:
        return key


class VideoSamples(Samples):
    """Samples from videos; every frame with a training instance is a key frame once.

    The reference frame of a pair is sampled uniformly from the other such frames of the video, at
    most ``max_frame_gap`` away; a single frame is its own reference. Both frames share one view:
    size, flip, crop and colours (the paper, 3.5, uses MaskTrack R-CNN's pipeline).
    """

    def __init__(self, dataset: YouTubeVisDataset, options: SampleOptions) -> None:
        self._videos = [(video, video.annotated_frames()) for video in dataset.videos]
        keys = [
            (number, frame)
            for number, (video, annotated) in enumerate(self._videos)
            for frame in (_key_frames(video, options.ignore) if options.keep_empty else annotated)
        ]
        super().__init__(keys, options)

    def _record(self, number: int, frame: int) -> ImageRecord:
        return self._videos[number][0].frame(frame)

    def _views(self, number: int, rng: np.random.Generator) -> list[View]:
        video, _ = self._videos[number]
        view = draw_view(rng, video.height, video.width, self._options.input)
        return [view, view] if self._options.paired else [view]

    def _reference(self, number: int, key: int, rng: np.random.Generator) -> int:
        max_gap = self._options.input.max_frame_gap
        return draw_reference(rng, key, self._videos[number][1], max_gap)


def shows_negatives(record: ImageRecord, ignore: bool) -> bool:
    """Whether an image without instances is a valid negative.

    An image with a crowd would teach that crowds are background, unless crowds are ignored.
    """
    return ignore or not record.ignored


def _key_frames(video: VideoRecord, ignore: bool) -> list[int]:
    """Frames with an instance, or that are valid negatives."""
    return [
        frame
        for frame, record in enumerate(map(video.frame, range(len(video))))
        if record.instances or shows_negatives(record, ignore)
    ]


def draw_reference(
    rng: np.random.Generator, key: int, annotated: list[int], max_gap: int | None
) -> int:
    """Sample the reference of frame ``key`` uniformly from the other ``annotated`` frames.

    Args:
        rng: random generator.
        key: index of the key frame.
        annotated: indices of the frames with instances.
        max_gap: maximum distance from the key frame, or None for the whole video.

    Returns:
        A frame index; ``key`` itself if no other frame qualifies.
    """
    others = [
        frame
        for frame in annotated
        if frame != key and (max_gap is None or abs(frame - key) <= max_gap)
    ]
    return others[rng.integers(len(others))] if others else key
