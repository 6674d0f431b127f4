"""Tiny annotated sets, written to disk for the tests of data sets and their tools."""

import json
import random
from itertools import islice

import cv2
import numpy as np
import torch

from queryinst_vis import cli
from queryinst_vis.config import Config, DatasetConfig
from queryinst_vis.data.loader import train_loader
from queryinst_vis.data.tools.statistics import measure_set, summarise_set
from queryinst_vis.formats.annotation_set import parse_set
from queryinst_vis.masks import encode_rle
from queryinst_vis.masks.rle import compress

HEIGHT, WIDTH = 48, 80


def rectangle(x0, y0, x1, y1):
    """A filled rectangle as a mask; ends exclusive."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def uncompressed(mask):
    """COCO's RLE with the counts as a list."""
    pixels = mask.T.ravel()
    starts = np.flatnonzero(np.diff(np.concatenate(([False], pixels))))
    bounds = np.concatenate(([0], starts, [pixels.size]))
    return {"size": list(mask.shape), "counts": np.diff(bounds).tolist()}


def compressed(runs):
    """COCO's compressed counts of these run lengths."""
    return compress(np.array(runs), 1, 1)["counts"]


def decoded_slowly(text):
    """COCO's format, number by number."""
    runs, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    return runs


def write_picture(path, seed=0):
    """A smooth random JPEG picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (6, 10, 3)).astype(np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, (WIDTH, HEIGHT)), [cv2.IMWRITE_JPEG_QUALITY, 95])


def coco_content():
    """Two images; ids are neither 1-based nor contiguous; the second image shows nothing."""
    box = rectangle(10, 8, 30, 40)
    return {
        "images": [
            {"id": 70, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 7, "file_name": "b.jpg", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        "annotations": [
            {
                "id": 501,
                "image_id": 70,
                "category_id": 18,
                "bbox": [10, 8, 20, 32],
                "segmentation": [[10, 8, 30, 8, 30, 40, 10, 40]],
                "iscrowd": 0,
            },
            {
                "id": 44,
                "image_id": 70,
                "category_id": 3,
                "bbox": [40, 5, 35, 20],
                "segmentation": uncompressed(rectangle(40, 5, 75, 25)),
                "iscrowd": 0,
            },
            {
                "id": 9,
                "image_id": 70,
                "category_id": 18,
                "bbox": [0, 0, 80, 48],
                "segmentation": uncompressed(box),
                "iscrowd": 1,
            },
        ],
    }


def video_content(frames=4):
    """One video; a car moves right by 10 a frame, a dog is seen in frames 1 and 2 only."""
    car = [rectangle(5 + 10 * i, 5, 25 + 10 * i, 20) for i in range(frames)]
    dog = rectangle(10, 25, 30, 45)
    return {
        "videos": [
            {
                "id": 12,
                "height": HEIGHT,
                "width": WIDTH,
                "length": frames,
                "file_names": [f"v12/{i:05d}.jpg" for i in range(frames)],
            }
        ],
        "categories": [{"id": 5, "name": "dog"}, {"id": 9, "name": "car"}],
        "annotations": [
            {
                "id": 31,
                "video_id": 12,
                "category_id": 9,
                "iscrowd": 0,
                "segmentations": [encode_rle(mask) for mask in car],
                "bboxes": [[5 + 10 * i, 5, 20, 15] for i in range(frames)],
            },
            {
                "id": 30,
                "video_id": 12,
                "category_id": 5,
                "iscrowd": 0,
                "segmentations": [
                    uncompressed(dog) if i in (1, 2) else None for i in range(frames)
                ],
                "bboxes": [[10, 25, 20, 20] if i in (1, 2) else None for i in range(frames)],
            },
        ],
    }


def write_set(folder, content):
    """Write the JSON and pictures; returns ``(annotation path, image folder)``."""
    names = [image["file_name"] for image in content.get("images", [])]
    names += [name for video in content.get("videos", []) for name in video["file_names"]]
    for seed, name in enumerate(names):
        write_picture(folder / "images" / name, seed)
    (folder / "set.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "set.json", folder / "images"


def training_config(annotations, images, pairs=False, **settings):
    """A config for the classes car and dog at 48x80, without augmentation unless given."""
    config = Config(seed=3)
    config.model.classes = ["car", "dog"]
    config.model.track.enabled = pairs
    config.data.train = DatasetConfig(str(annotations), str(images))
    config.data.num_workers = 0
    config.data.allow_absent_classes = True
    config.train.batch_size = 2
    config.input.train_short, config.input.train_long = [HEIGHT], [WIDTH]
    config.input.flip = 0.0
    for key, value in settings.items():
        assert hasattr(config.input, key)
        setattr(config.input, key, value)
    return config


def batches(config, number, **arguments):
    return list(islice(train_loader(config, **arguments), number))


def assert_equal_batches(first, second):
    assert torch.equal(first.images, second.images)
    for ours, theirs in zip(first.targets, second.targets, strict=True):
        for name in ("boxes", "labels", "masks", "instance_ids"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        assert ours.image_size == theirs.image_size
    assert (first.reference is None) == (second.reference is None)
    if first.reference is not None:
        assert_equal_batches(first.reference, second.reference)


def whole_mask(piece, size=(HEIGHT, WIDTH)):
    """A piece of a mask as a bool mask of the frame."""
    pixels = np.zeros(size, bool)
    piece.add_to(pixels)
    return pixels


def tight(mask):
    """The bounding box of a bool mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def parsed(content):
    """The annotation set of a content without errors."""
    found = []
    annotation_set = parse_set(content, found.append)
    assert [finding for finding in found if finding.severity == "error"] == []
    return annotation_set


def run_cli(*words):
    return cli.main([str(word) for word in words])


def write_json(content, path):
    path.write_text(json.dumps(content))
    return path


def summary_of(content):
    annotation_set = parsed(content)
    return summarise_set(measure_set(annotation_set), annotation_set.kind)


def many_videos(count, classes=("person", "dog", "yak"), seed=0):
    """Sequences with a few classes each; the last class is rare."""
    chance = random.Random(seed)
    mask = encode_rle(rectangle(0, 0, 9, 9))
    content = {"videos": [], "annotations": [], "categories": []}
    for k, name in enumerate(classes, start=1):
        content["categories"].append({"id": k, "name": name})
    for k in range(1, count + 1):
        names = [f"{chance.getrandbits(40):010x}/0.jpg"]
        video = {"id": k, "height": HEIGHT, "width": WIDTH, "length": 1, "file_names": names}
        content["videos"].append(video)
        for category in range(1, len(classes) + 1):
            if chance.random() < 0.8 / category**2:
                identity = len(content["annotations"]) + 1
                ids = {"id": identity, "video_id": k, "category_id": category}
                content["annotations"].append({**ids, "segmentations": [mask]})
    return content
