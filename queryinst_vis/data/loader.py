"""From the config to an endless stream of training batches."""

from __future__ import annotations

import signal
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from queryinst_vis.config import Config, DatasetConfig, check_numbers, resolved
from queryinst_vis.data.coco import CocoDataset
from queryinst_vis.data.copy_paste import draw_cutouts, paste
from queryinst_vis.data.frames import Frame, without_small
from queryinst_vis.data.input_checks import check_input
from queryinst_vis.data.order import BatchOrder, SampleOrder
from queryinst_vis.data.pairs import ImageSamples, SampleOptions, Samples, VideoSamples
from queryinst_vis.data.records import ImageRecord
from queryinst_vis.data.transforms import pad_and_normalise, padded_size
from queryinst_vis.data.v2_transforms import Transforms, apply_transforms, build_transforms
from queryinst_vis.data.views import canvas_size
from queryinst_vis.data.youtube_vis import YouTubeVisDataset
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.formats.names import list_names
from queryinst_vis.formats.reading import read_annotations
from queryinst_vis.structures import Batch, Target

_DONOR_DRAWS = 10  # attempts to find another image or video to paste from


def open_dataset(config: DatasetConfig, classes: list[str]) -> CocoDataset | YouTubeVisDataset:
    """Open an annotated set of videos (files with ``videos``) or images (with ``images``).

    Args:
        config: paths of the annotation file and of the image folder.
        classes: class names of the model, matched by name.

    Raises:
        InputError: a path is not set, or the set is invalid.
    """
    if not config.annotations or not config.images:
        raise InputError(
            "a dataset is not set: give both data.SET.annotations=FILE and data.SET.images=FOLDER"
        )
    annotations = resolved(config.annotations, "annotation file")
    images = resolved(config.images, "image folder")
    content = read_annotations(annotations)
    if "videos" in content:
        return YouTubeVisDataset(annotations, images, classes, content, config.allow_outside)
    if "images" in content:
        return CocoDataset(annotations, images, classes, content, config.allow_outside)
    raise InputError(f"{annotations}: has neither 'images' (COCO) nor 'videos' (YouTube-VIS)")


def sample_images(config: DatasetConfig, classes: list[str], count: int) -> list[ImageRecord]:
    """At most ``count`` images or video frames for calibration, evenly spaced in a set.

    Raises:
        InputError: as for ``open_dataset``, or the set is empty.
    """
    dataset = open_dataset(config, classes)
    if isinstance(dataset, CocoDataset):
        images = dataset.images
    else:
        images = [video.frame(index) for video in dataset.videos for index in range(len(video))]
    if not images:
        raise InputError(f"calibration set {config.annotations}: contains no images")
    return images[:: -(-len(images) // count)]


def train_loader(
    config: Config,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    transforms: Transforms | None = None,
) -> Iterator[Batch]:
    """Endless training batches of ``data.train`` mixed with ``data.train_extra``.

    With ``model.track.enabled`` every batch has a reference: another frame of the same video,
    or another view of the same image.

    Sample n depends only on ``(seed, n)``. Step s of a rank uses batch
    ``s * world_size + rank`` of a ``BatchOrder``, so the result does not depend on the number of
    workers, and a resumed run continues with the same samples.

    Args:
        config: uses ``seed``, ``data``, ``input``, ``train.batch_size``,
            ``train.shape_window``, ``model.classes``,
            ``model.track.enabled``, ``losses.ignore_overlap`` (if set, targets have ignore
            regions) and the backbone's mean and std.
        start_step: number of previous batches of this rank.
        rank, world_size: rank of this process, and number of processes.
        transforms: augmentation in the style of ``torchvision.transforms.v2``, applied after
            ``input.transforms`` (see ``v2_transforms.apply_transforms``).

    Returns:
        An endless iterator; key and reference are padded to a common size, which with
        ``input.scale_jitter`` is the canvas, in multiples of 32.

    Raises:
        InputError: immediately for settings and annotation files, during iteration for images and
            segmentations.
    """
    samples = open_training_set(config, transforms)
    return load_batches(samples, config, start_step, rank, world_size)


def open_training_set(config: Config, transforms: Transforms | None = None) -> TrainingSamples:
    """Open ``data.train`` and ``data.train_extra``; arguments as for ``train_loader``.

    Raises:
        InputError: invalid settings or annotation files.
    """
    check_numbers(config)
    check_input(config.input)
    return TrainingSamples(config, transforms)


def load_batches(
    samples: TrainingSamples,
    config: Config,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Endless batches of opened training sets; arguments and result as for ``train_loader``."""
    order = BatchOrder(
        config.train.batch_size, config.train.shape_window, config.seed, samples.shape
    )
    loader = DataLoader(
        samples,
        batch_sampler=(order[step * world_size + rank] for step in count(start_step)),
        num_workers=config.data.num_workers,
        collate_fn=Collate(
            config.model.backbone.mean, config.model.backbone.std, canvas_size(config.input)
        ),
        worker_init_fn=_prepare_worker,
    )
    return _raise_errors(loader)


class TrainingSamples(Dataset):
    """Sample n of the training sets, as ``[frame]`` or ``[key, reference]``."""

    def __init__(self, config: Config, transforms: Transforms | None = None) -> None:
        """Open the training sets.

        Args:
            config: see ``train_loader``.
            transforms: see ``train_loader``.

        Raises:
            InputError: a set is not readable or has nothing to train on, or
                ``input.transforms`` is invalid.
        """
        sets = [config.data.train, *config.data.train_extra]
        opened = [_open_source(entry, config) for entry in sets]
        self._sources = [source for source, _ in opened]
        _check_classes(config, sum((counts for _, counts in opened), Counter()))
        sizes = [len(source) for source in self._sources]
        self._order = SampleOrder(sizes, [entry.weight for entry in sets], config.seed)
        self._seed = config.seed
        self._input = config.input
        self._ignore = config.losses.ignore_overlap is not None
        chains = build_transforms(config.input.transforms), transforms
        self._transforms = [chain for chain in chains if chain]

    @property
    def epoch_length(self) -> int:
        """Number of samples per epoch."""
        return self._order.epoch_length

    def __getitem__(self, number: int) -> list[Frame] | InputError:
        """Sample ``number``, or the InputError that it raises.

        The error is returned as a value, because DataLoader would re-raise it with the
        worker's traceback as the message.
        """
        try:
            return self._augment(self._draw(number), number)
        except InputError as error:
            return error

    def shape(self, number: int) -> tuple[int, int]:
        """``(height, width)`` of sample ``number`` before transforms, without loading it."""
        source, item = self._order[number]
        return self._sources[source].shape(item, np.random.default_rng([self._seed, number]))

    def _draw(self, number: int) -> list[Frame]:
        source, item = self._order[number]
        return self._sources[source].draw(item, np.random.default_rng([self._seed, number]))

    def _augment(self, frames: list[Frame], number: int) -> list[Frame]:
        """Augmentation that does not depend on the source of the frames.

        Copy-paste and transforms have separate random streams, so that enabling or disabling one of
        them does not change anything else about a sample.
        """
        pasting, transforming = (self._generator(number, stream) for stream in range(2))
        if pasting.random() < self._input.copy_paste:
            frames = self._paste(frames, number, pasting)
        if self._transforms:
            seed = int(transforming.integers(2**32))
            frames = [apply_transforms(frame, self._transforms, seed) for frame in frames]
        frames = [without_small(frame, self._input.min_visible) for frame in frames]
        return frames if self._ignore else [replace(frame, ignored=[]) for frame in frames]

    def _generator(self, number: int, stream: int) -> np.random.Generator:
        sequence = np.random.SeedSequence([self._seed, number], spawn_key=(stream,))
        return np.random.default_rng(sequence)

    def _paste(self, frames: list[Frame], number: int, rng: np.random.Generator) -> list[Frame]:
        """Paste instances of a random sample, from the same mixture of sets as all samples.

        It is from another image or video than sample ``number``; otherwise, the same object could
        appear twice with two identities. If no such sample is found, nothing is pasted.
        """
        origin = self._origin(number)
        length = self._order.epoch_length
        first = number // length * length  # of the same epoch: others may use other items of a set
        draws = (first + rng.integers(length, size=_DONOR_DRAWS)).tolist()
        donor = next((draw for draw in draws if self._origin(draw) != origin), None)
        if donor is None:
            return frames
        source, item = self._order[donor]
        cutouts = draw_cutouts(rng, frames, self._sources[source].record(item), self._input)
        return [paste(frame, pasted) for frame, pasted in zip(frames, cutouts, strict=True)]

    def _origin(self, number: int) -> tuple[int, int]:
        """The set of sample ``number``, and the image or video in it."""
        source, item = self._order[number]
        return source, self._sources[source].origin(item)


def _open_source(entry: DatasetConfig, config: Config) -> tuple[Samples, Counter[int]]:
    """A training set's samples, and its number of instances by class index."""
    dataset = open_dataset(entry, config.model.classes)
    if not dataset.has_annotations:
        raise InputError(
            f"{entry.annotations}: has no 'annotations' to train on; public validation and test "
            "files contain none, use the training file"
        )
    options = SampleOptions(
        config.input,
        paired=config.model.track.enabled,
        keep_empty=entry.keep_empty,
        ignore=config.losses.ignore_overlap is not None,
    )
    source: Samples
    if isinstance(dataset, YouTubeVisDataset):
        source = VideoSamples(dataset, options)
        labels = [track.label for video in dataset.videos for track in video.tracks]
        crowds = sum(len(video.ignored) for video in dataset.videos)
    else:
        source = ImageSamples(dataset, options)
        labels = [instance.label for image in dataset.images for instance in image.instances]
        crowds = sum(len(image.ignored) for image in dataset.images)
    if not len(source):
        problem = "no instance of the model's classes to train on"
        if crowds:
            problem = (
                f"all {crowds} instances of the model's classes are crowds (`iscrowd` 1), which "
                "are not used for training; set it to 0 for single objects"
            )
        raise InputError(f"{entry.annotations}: {problem}")
    return source, Counter(labels)


def _check_classes(config: Config, counts: Counter[int]) -> None:
    """Reject classes without instances, or warn with ``data.allow_absent_classes``."""
    absent = [name for label, name in enumerate(config.model.classes) if not counts[label]]
    if not absent:
        return
    message = f"the training sets have no instance of {list_names(absent)}"
    if not config.data.allow_absent_classes:
        raise InputError(
            f"{message}; correct model.classes or the sets' class names, or set "
            "data.allow_absent_classes=true"
        )
    warnings.warn(message, InputWarning, stacklevel=2)


def _prepare_worker(worker: int) -> None:
    # Ctrl-C and many schedulers signal every process of a job. Workers ignore it, since the main
    # process needs them to finish its step, and exit with the main process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)  # OpenCV's threads would compete with the workers


def _raise_errors(loader: Iterable[Batch | InputError]) -> Iterator[Batch]:
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


class Collate:
    """Normalise samples and pad them to a Batch, at least to the ``canvas`` size if given."""

    def __init__(
        self, mean: list[float], std: list[float], canvas: tuple[int, int] | None = None
    ) -> None:
        self._mean = mean
        self._std = std
        self._min_sizes = [canvas] if canvas else []

    def __call__(self, samples: Sequence[list[Frame] | InputError]) -> Batch | InputError:
        """One Batch, with a reference if the samples are pairs; or the first error."""
        valid: list[list[Frame]] = []
        for sample in samples:
            if isinstance(sample, InputError):
                return sample
            valid.append(sample)
        size = padded_size([frame.size for sample in valid for frame in sample] + self._min_sizes)
        key, *reference = (self._batch(frames, size) for frames in zip(*valid, strict=True))
        return Batch(key.images, key.targets, *reference)

    def _batch(self, frames: Sequence[Frame], size: tuple[int, int]) -> Batch:
        images = pad_and_normalise([frame.image for frame in frames], self._mean, self._std, size)
        return Batch(images, _targets(frames, size))


def _targets(frames: Sequence[Frame], size: tuple[int, int]) -> list[Target]:
    """Targets of padded frames, with masks of the padded ``size``.

    The targets are slices of one tensor of each kind, because workers pass every tensor through
    a separate file descriptor, which large batches would exhaust.
    """
    instances = [instance for frame in frames for instance in frame.instances]
    masks = torch.zeros((len(instances), *size), dtype=torch.bool)
    for mask, instance in zip(masks.numpy(), instances, strict=True):
        if instance.mask is not None:
            instance.mask.add_to(mask)
    boxes = torch.tensor([instance.box for instance in instances], dtype=torch.float32)
    counts = [len(frame.instances) for frame in frames]
    return [
        Target(
            boxes=frame_boxes,
            labels=labels,
            masks=frame_masks,
            instance_ids=ids,
            image_size=frame.size,
            has_mask=has_mask,
            ignore=ignore,
        )
        for frame, frame_boxes, frame_masks, labels, ids, has_mask, ignore in zip(
            frames,
            boxes.view(-1, 4).split(counts),
            masks.split(counts),
            torch.tensor([i.label for i in instances], dtype=torch.int64).split(counts),
            torch.tensor([i.id for i in instances], dtype=torch.int64).split(counts),
            torch.tensor([i.mask is not None for i in instances], dtype=torch.bool).split(counts),
            _ignored_regions(frames, size),
            strict=True,
        )
    ]


def _ignored_regions(frames: Sequence[Frame], size: tuple[int, int]) -> list[torch.Tensor | None]:
    """The ignore regions of each frame as one mask of ``size``; None without ignore regions."""
    regions = torch.zeros((sum(bool(frame.ignored) for frame in frames), *size), dtype=torch.bool)
    remaining = iter(regions)
    ignored: list[torch.Tensor | None] = []
    for frame in frames:
        if not frame.ignored:
            ignored.append(None)
            continue
        region = next(remaining)
        for piece in frame.ignored:
            piece.add_to(region.numpy())
        ignored.append(region)
    return ignored
