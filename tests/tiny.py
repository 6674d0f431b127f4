"""A tiny data set for end-to-end tests: coloured rectangles on grey, and a matching model.

Every frame shows a red ``box`` and a green ``crate``, which trade places slowly. The
rectangles are exact, so an oracle that reads them from the pixels must score an AP of 1.
"""

import cv2
import numpy as np
import torch
from torch import nn

from queryinst_vis.config import (
    BackboneConfig,
    Config,
    DataConfig,
    DatasetConfig,
    InferenceConfig,
    InputConfig,
    MaskHeadConfig,
    ModelConfig,
    TrackHeadConfig,
    TrainConfig,
)
from queryinst_vis.masks import encode_rle
from queryinst_vis.models.build import build_model
from queryinst_vis.models.queryinst import QueryInst
from queryinst_vis.structures import Detections
from queryinst_vis.utils.files import write_json_atomically

HEIGHT, WIDTH = 64, 96
CLASSES = ["box", "crate"]
COLOURS = np.array([[230, 20, 20], [20, 230, 20]], dtype=np.uint8)
# another order, other numbers and one class more than the model has
CATEGORIES = [
    {"id": 9, "name": "crate"},
    {"id": 4, "name": "unknown"},
    {"id": 7, "name": "box"},
]
CATEGORY_IDS = [7, 9]


def rectangles(frame):
    """xyxy of the red and of the green rectangle in a frame."""
    return [(8 + 3 * frame, 8, 32 + 3 * frame, 28), (60 - 3 * frame, 34, 84 - 3 * frame, 58)]


def draw_frame(index):
    frame = np.full((HEIGHT, WIDTH, 3), 110, dtype=np.uint8)
    for (x0, y0, x1, y1), colour in zip(rectangles(index), COLOURS, strict=True):
        frame[y0:y1, x0:x1] = colour
    return frame


def _rle(box):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return encode_rle(mask)


def _xywh(box):
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def write_videos(folder, videos=2, frames=4):
    """A YouTube-VIS set; returns its DatasetConfig."""
    content = {"categories": CATEGORIES, "videos": [], "annotations": []}
    for number in range(videos):
        names = [f"{number}/{index}.png" for index in range(frames)]
        (folder / str(number)).mkdir(parents=True)
        for index, name in enumerate(names):
            cv2.imwrite(str(folder / name), draw_frame(index)[..., ::-1])
        size = {"height": HEIGHT, "width": WIDTH, "length": frames}
        content["videos"].append({"id": 50 - number, "file_names": names, **size})
        for label, category in enumerate(CATEGORY_IDS):
            boxes = [rectangles(index)[label] for index in range(frames)]
            content["annotations"].append(
                {
                    "id": 1 + 2 * number + label,
                    "video_id": 50 - number,
                    "category_id": category,
                    "iscrowd": 0,
                    "segmentations": [_rle(box) for box in boxes],
                    "bboxes": [_xywh(box) for box in boxes],
                    "areas": [_xywh(box)[2] * _xywh(box)[3] for box in boxes],
                }
            )
    write_json_atomically(folder / "videos.json", content)
    return DatasetConfig(str(folder / "videos.json"), str(folder))


def write_images(folder, images=4):
    """A COCO set; returns its DatasetConfig."""
    content = {"categories": CATEGORIES, "images": [], "annotations": []}
    folder.mkdir(parents=True)
    for index in range(images):
        name, size = f"{index}.png", {"height": HEIGHT, "width": WIDTH}
        cv2.imwrite(str(folder / name), draw_frame(index)[..., ::-1])
        content["images"].append({"id": 20 - index, "file_name": name, **size})
        for label, box in enumerate(rectangles(index)):
            content["annotations"].append(
                {
                    "id": 1 + 2 * index + label,
                    "image_id": 20 - index,
                    "category_id": CATEGORY_IDS[label],
                    "iscrowd": 0,
                    "segmentation": _rle(box),
                    "bbox": _xywh(box),
                    "area": _xywh(box)[2] * _xywh(box)[3],
                }
            )
    write_json_atomically(folder / "images.json", content)
    return DatasetConfig(str(folder / "images.json"), str(folder))


def tiny_config(train=None, val=None, track=True):
    """A complete config of 0.5 M parameters at 64x96 pixels."""
    return Config(
        model=ModelConfig(
            classes=list(CLASSES),
            backbone=BackboneConfig(name="lcnet_035"),
            channels=32,
            num_queries=5,
            num_stages=2,
            num_heads=4,
            ffn_channels=64,
            dynamic_channels=8,
            mask=MaskHeadConfig(num_convs=1),
            track=TrackHeadConfig(enabled=track, hidden_channels=32, embedding_channels=16),
        ),
        inference=InferenceConfig(score_threshold=0.0, max_per_image=5, one_label_per_query=track),
        data=DataConfig(train=train or DatasetConfig(), val=val or DatasetConfig(), num_workers=0),
        input=InputConfig(
            train_short=[HEIGHT], train_long=[WIDTH], test_short=HEIGHT, test_long=WIDTH
        ),
        train=TrainConfig(
            max_steps=4, batch_size=2, lr=1e-3, warmup_steps=2, lr_steps=[3], log_every=1
        ),
    )


def distinct_model(config: Config) -> QueryInst:
    """Random weights whose detections, in contrast to those of a new model, differ clearly.

    A new model scores 0.01 everywhere, and its embeddings are nearly zero, so that rounding
    decides about the order of detections and their tracks.
    """
    model = build_model(config).eval()
    for stage in model.stages:
        nn.init.normal_(stage.class_predictor.weight, std=1.0)
        nn.init.normal_(stage.box_predictor.weight, std=0.1)
    for layer in model.track_head.fcs if config.model.track.enabled else []:
        nn.init.normal_(layer.weight, std=0.1)
    return model


def oracle_detect(model, images, image_sizes, original_sizes, **settings):
    """Stands in for ``models.postprocess.detect``: reads the rectangles from the pixels."""
    backbone = BackboneConfig()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    return [_oracle(image * std + mean) for image in images]


def _oracle(image):
    boxes = []
    for colour in torch.from_numpy(COLOURS).float():
        rows, columns = torch.where((image - colour[:, None, None]).abs().amax(dim=0) < 5)
        corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        boxes.append([float(corner) for corner in corners])
    return Detections(
        boxes=torch.tensor(boxes),
        scores=torch.tensor([0.9, 0.8]),
        labels=torch.tensor([0, 1]),
        image_size=(HEIGHT, WIDTH),
        mask_logits=torch.full((2, 28, 28), 10.0),
        embeddings=5 * torch.eye(2, 16),
    )
