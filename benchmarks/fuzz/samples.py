"""Valid inputs to corrupt: rendered clips, tiny sets, an untrained model with 0.5 M parameters.

All are generated in seconds, and identical in every run.
"""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image

from queryinst_vis.checkpoints.convert import convert_checkpoint
from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.config import Config, config_to_dict
from queryinst_vis.models.build import build_model
from queryinst_vis.training.train import train
from tests.tiny import HEIGHT, WIDTH, draw_frame, tiny_config, write_images, write_videos

DATA = Path(__file__).parents[2] / "tests" / "data"
FRAMES = 8
STEPS = 6
"""Length of the training run that is killed and resumed."""

CLIPS = {  # name: codec, options
    "plain.mp4": ("libx264", {"g": "4"}),
    "index_first.mp4": ("libx264", {"movflags": "+faststart"}),
    "fragments.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov", "g": "2"}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none:pools=none:frame-threads=1"}),
    "clip.mkv": ("libx264", {"g": "4", "bf": "2"}),
    "clip.avi": ("mpeg4", {}),
    "motion_jpeg.avi": ("mjpeg", {}),
    "clip.ts": ("libx264", {"g": "4"}),
    "clip.webm": ("libvpx-vp9", {"g": "4"}),
    "clip.mov": ("mpeg4", {}),
    "clip.gif": ("gif", {}),
}
MOTS_IDS = (1001, 2007, 10000)


def write_samples(folder: Path) -> None:
    """Write all samples into an empty folder."""
    torch.manual_seed(0)
    for name, (codec, options) in CLIPS.items():
        write_clip(folder / "video" / name, codec, options)
    write_pictures(folder / "image")
    videos, images = write_videos(folder / "set"), write_images(folder / "coco")
    _write_results(folder / "set" / "videos.json", folder / "results.json")
    _write_results(folder / "coco" / "images.json", folder / "image_results.json")
    config = tiny_config(train=videos, val=videos)
    config.data.test = videos
    config.train.precision = "32-true"  # on any machine
    config.train.max_steps, config.train.checkpoint_every, config.train.eval_every = STEPS, 2, 3
    write_config(folder / "config.yaml", config)
    image_config = tiny_config(train=images, val=images, track=False)
    image_config.data.test, image_config.train = images, config.train
    write_config(folder / "image_config.yaml", image_config)
    save_weights(folder / "image.safetensors", build_model(image_config).eval(), image_config)
    save_weights(folder / "tiny.safetensors", build_model(config).eval(), config)
    config.train.max_steps = 1
    train(config, folder / "run", devices=1)
    _write_checkpoints(folder / "checkpoint")
    _write_mots(folder / "mots")
    _write_davis(folder / "davis")
    _write_labelme(folder / "labelme" / "street")
    _write_cvat(folder / "cvat" / "street")
    _write_cityscapes(folder / "cityscapes")


def _write_checkpoints(folder: Path) -> None:
    """A track head and a ResNet-18 detector, small, as mmdetection saves them."""
    folder.mkdir()
    head = torch.load(DATA / "tracker_mmdet.pth", weights_only=True)["state_dict"]
    meta = {"CLASSES": ("cat", "dog"), "epoch": 12}
    state = {f"track_head.{name}": value for name, value in head.items()}
    torch.save({"meta": meta, "state_dict": state}, folder / "track_head.pth")
    config = tiny_config(track=False)
    config.model.backbone.name, config.model.ffn_channels = "resnet18", 48
    save_weights(folder / "ours.safetensors", build_model(config).eval(), config)
    convert_checkpoint(folder / "ours.safetensors", folder / "queryinst.pth")
    (folder / "ours.safetensors").unlink()


def write_config(path: Path, config: Config) -> None:
    """Write a config as YAML."""
    OmegaConf.save(OmegaConf.create(config_to_dict(config)), path)


def write_clip(path: Path, codec: str, options: dict[str, str], frames: int = FRAMES) -> None:
    """The scene as a video with 10 frames per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    muxing = {key: value for key, value in options.items() if key == "movflags"}
    with av.open(str(path), "w", options=muxing) as container:
        coding = {key: value for key, value in options.items() if key != "movflags"}
        stream = container.add_stream(codec, rate=10, options=coding)
        formats = {"gif": "rgb8", "mjpeg": "yuvj420p"}
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = formats.get(codec, "yuv420p")
        stream.thread_count = 1
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(draw_frame(index), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def write_pictures(folder: Path) -> None:
    """One frame in various image formats and bit depths."""
    folder.mkdir()
    pixels = draw_frame(0)
    picture = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, options in (("a.jpg", {}), ("turned.jpg", {"exif": exif}), ("a.webp", {})):
        picture.save(folder / name, **options)
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.save(folder / "progressive.jpg", progressive=True)
    for name, mode in (("rgb", "RGB"), ("grey", "L"), ("palette", "P"), ("clear", "RGBA")):
        picture.convert(mode).save(folder / f"{name}.png")
    picture.convert("1").save(folder / "bits.png")
    cv2.imwrite(str(folder / "deep.png"), pixels.astype(np.uint16) * 257)
    for suffix in ("tif", "bmp", "gif", "ppm"):
        picture.save(folder / f"a.{suffix}")


def _write_results(ground_truth: Path, path: Path) -> None:
    """The ground truth as results with scores."""
    content = json.loads(ground_truth.read_text())
    kept = ("video_id", "image_id", "category_id", "segmentations", "segmentation", "bbox")
    results = [
        {key: value for key, value in entry.items() if key in kept} | {"score": 0.9 - 0.1 * index}
        for index, entry in enumerate(content["annotations"])
    ]
    path.write_text(json.dumps(results))


def _instance_map(frame: int) -> np.ndarray:
    """A car, a walking person, and an ignore region."""
    ids = np.zeros((24, 32), np.uint16)
    ids[:3] = MOTS_IDS[2]
    ids[8:20, 5:15] = MOTS_IDS[0]
    ids[10:22, 2 * frame : 2 * frame + 4] = MOTS_IDS[1]
    return ids


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def _write_mots(folder: Path) -> None:
    from queryinst_vis.masks import encode_rle

    lines = []
    for frame in range(1, 5):
        ids = _instance_map(frame)
        _write(folder / "images" / "0001" / f"{frame:06d}.jpg", (ids // 40).astype(np.uint8))
        _write(folder / "instances" / "0001" / f"{frame:06d}.png", ids)
        for identity in MOTS_IDS:
            counts = encode_rle(ids == identity)["counts"]
            lines.append(f"{frame} {identity} {identity // 1000} 24 32 {counts}")
    (folder / "instances_txt").mkdir()
    (folder / "instances_txt" / "0001.txt").write_text("\n".join(lines) + "\n")


def _write_davis(folder: Path) -> None:
    for frame in range(3):
        _write(
            folder / "JPEGImages" / "480p" / "bear" / f"{frame:05d}.jpg", draw_frame(0)[:24, :32]
        )
        path = folder / "Annotations" / "480p" / "bear" / f"{frame:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        indices = np.searchsorted([0, 1, 2], _instance_map(frame) // 1000).astype(np.uint8)
        image = Image.fromarray(indices)
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [7] * 759)
        image.save(path)


def _write_labelme(folder: Path) -> None:
    for frame in range(3):
        _write(folder / f"{frame}.jpg", draw_frame(0)[:24, :32])
        corners = [[2 + frame, 2], [10, 2], [10, 12], [2 + frame, 12]]
        shapes = [
            {"label": "car", "points": corners, "group_id": 1, "shape_type": "polygon"},
            {"label": "bus", "points": [[14, 6], [20, 20]], "group_id": None}
            | {"shape_type": "rectangle", "flags": {}},
        ]
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{frame}.jpg"}
        content |= {"imageData": None, "imageHeight": 24, "imageWidth": 32}
        (folder / f"{frame}.json").write_text(json.dumps(content))


def _write_cvat(folder: Path) -> None:
    shapes = ""
    for frame in range(3):
        _write(folder / "images" / f"frame_{frame:06d}.png", draw_frame(0)[:24, :32])
        places = f'frame="{frame}" outside="0" occluded="0" keyframe="1"'
        shapes += f'<polygon {places} points="2.00,2.00;10.50,2.00;10.00,12.00;2.00,12.00"/>'
    box = '<box frame="1" outside="0" occluded="0" xtl="3.0" ytl="4.0" xbr="20.5" ybr="20.0"/>'
    tracks = f'<track id="0" label="car">{shapes}</track><track id="1" label="bus">{box}</track>'
    size = "<original_size><width>32</width><height>24</height></original_size>"
    meta = f"<meta><task><name>t</name><size>3</size>{size}</task></meta>"
    text = f"<annotations><version>1.1</version>{meta}{tracks}</annotations>"
    (folder / "annotations.xml").write_text(f'<?xml version="1.0" encoding="utf-8"?>{text}')


def _write_cityscapes(folder: Path) -> None:
    ids = np.full((HEIGHT, WIDTH), 7, np.uint16)
    ids[10:30, 5:25], ids[10:30, 25:50], ids[34:52, 10:20] = 26000, 26001, 24000
    for name in ("ulm_000000_000019", "bonn_000001_000019"):
        _write(folder / name.partition("_")[0] / f"{name}_gtFine_instanceIds.png", ids)
