"""What one training sample is: an image, a pseudo-clip of an image, or two frames of a video."""

from __future__ import annotations

import numpy as np

from queryinst_vis.config import InputConfig
from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.frames import Frame, load_pixels, look
from queryinst_vis.data.views import View, draw_pseudo_clip, draw_view
from queryinst_vis.data.youtube_vis import VideoRecord, YouTubeVisDataset
from queryinst_vis.formats.annotations import ImageRecord


class ImageSamples:
    """Samples from still images; with ``paired`` each image becomes a pseudo-clip.

    A pseudo-clip is two random views of the image with shared instance ids, from which the
    track head learns as from two frames. Images without a trainable instance are left out,
    unless ``keep_empty`` (see ``shows_negatives``). With ``ignore``, frames have their ignored
    regions.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        config: InputConfig,
        paired: bool,
        keep_empty: bool = False,
        ignore: bool = False,
    ) -> None:
        self._images: list[ImageRecord] = [
            image
            for image in dataset.images
            if image.instances or (keep_empty and shows_negatives(image, ignore))
        ]
        self._config = config
        self._paired = paired
        self._ignore = ignore

    def __len__(self) -> int:
        return len(self._images)

    def origin(self, index: int) -> int:
        """Which image sample ``index`` is of."""
        return index

    def record(self, index: int) -> ImageRecord:
        """The image of sample ``index`` and its instances."""
        return self._images[index]

    def draw(self, index: int, rng: np.random.Generator) -> list[Frame]:
        """Image ``index`` as ``[frame]``, or as ``[key, reference]``.

        Raises:
            InputError: the image or a segmentation cannot be read.
        """
        record = self.record(index)
        image = load_pixels(record)
        return [look(image, record, view, self._ignore) for view in self._views(index, rng)]

    def shape(self, index: int, rng: np.random.Generator) -> tuple[int, int]:
        """``(height, width)`` that the frames of ``draw`` need, from the same random numbers."""
        views = self._views(index, rng)
        return max(view.height for view in views), max(view.width for view in views)

    def _views(self, index: int, rng: np.random.Generator) -> list[View]:
        record = self.record(index)
        if self._paired:
            return draw_pseudo_clip(rng, record.height, record.width, self._config)
        return [draw_view(rng, record.height, record.width, self._config)]


class VideoSamples:
    """Samples from videos; every frame that shows a trainable instance is a key frame once.

    ``keep_empty`` makes key frames of those without an instance as well, as for images.

    With ``paired`` a reference frame comes with it, drawn uniformly from the other such frames
    of the video, at most ``max_frame_gap`` away; a lone frame is its own reference. Both frames
    share one view: size, flip, crop and colours (paper 3.5 keeps MaskTrack R-CNN's pipeline).
    With ``ignore``, frames have their ignored regions.
    """

    def __init__(
        self,
        dataset: YouTubeVisDataset,
        config: InputConfig,
        paired: bool,
        keep_empty: bool = False,
        ignore: bool = False,
    ) -> None:
        self._frames = [(video, video.annotated_frames()) for video in dataset.videos]
        self._keys = [
            (number, place)
            for number, (video, annotated) in enumerate(self._frames)
            for place in (_key_frames(video, ignore) if keep_empty else annotated)
        ]
        self._config = config
        self._paired = paired
        self._ignore = ignore

    def __len__(self) -> int:
        return len(self._keys)

    def origin(self, index: int) -> int:
        """Which video sample ``index`` is of."""
        return self._keys[index][0]

    def record(self, index: int) -> ImageRecord:
        """The key frame of sample ``index`` and the instances that it shows."""
        number, key = self._keys[index]
        return self._frames[number][0].frame(key)

    def draw(self, index: int, rng: np.random.Generator) -> list[Frame]:
        """Key frame ``index`` as ``[frame]``, or as ``[key, reference]``.

        Raises:
            InputError: an image or a segmentation cannot be read.
        """
        number, key = self._keys[index]
        video, annotated = self._frames[number]
        view = self._view(index, rng)
        places = [key]
        if self._paired:
            places.append(draw_reference(rng, key, annotated, self._config.max_frame_gap))
        return [_look_at(video, place, view, self._ignore) for place in places]

    def shape(self, index: int, rng: np.random.Generator) -> tuple[int, int]:
        """``(height, width)`` that the frames of ``draw`` need, from the same random numbers."""
        view = self._view(index, rng)
        return view.height, view.width

    def _view(self, index: int, rng: np.random.Generator) -> View:
        video, _ = self._frames[self._keys[index][0]]
        return draw_view(rng, video.height, video.width, self._config)


def shows_negatives(record: ImageRecord, ignore: bool) -> bool:
    """Whether an image without an instance teaches what no instance looks like.

    One that shows a crowd would teach that a crowd is background, unless crowds are ignored.
    """
    return ignore or not record.ignored


def _key_frames(video: VideoRecord, ignore: bool) -> list[int]:
    """Frames that show an instance, or none and negatives."""
    records = map(video.frame, range(len(video)))
    return [
        place
        for place, record in enumerate(records)
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
        place
        for place in annotated
        if place != key and (max_gap is None or abs(place - key) <= max_gap)
    ]
    return others[rng.integers(len(others))] if others else key


def _look_at(video: VideoRecord, place: int, view: View, ignore: bool) -> Frame:
    record = video.frame(place)
    return look(load_pixels(record), record, view, ignore)
