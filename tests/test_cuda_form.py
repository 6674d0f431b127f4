"""The CUDA form of the network: the plain model's outputs, computed with static shapes.

It runs on every device, so most of it is tested without a GPU.
"""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from queryinst_vis.config import InferenceConfig
from queryinst_vis.errors import InputError
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.optimize import optimize_for_inference
from queryinst_vis.inference.static_runner import StaticRunner
from queryinst_vis.inference.tracker import VideoTracker
from queryinst_vis.masks import encode_rle
from queryinst_vis.masks.paste import paste_masks
from queryinst_vis.models.cuda.detect import StaticDetector, StaticSettings
from queryinst_vis.models.cuda.frames import to_network_input
from queryinst_vis.models.cuda.inference_form import to_cuda_form
from queryinst_vis.models.cuda.masks import find_run_boundaries, paste
from queryinst_vis.models.postprocess import detect
from tests.closeness import EMBEDDINGS, PIXELS, ROI_LOGITS, assert_equal_to_rounding
from tests.norm_support import build
from tests.tiny import HEIGHT, WIDTH, distinct_model, draw_frame, tiny_config

SIZE = (96, 128)
SENDING = {"tensor", "as_tensor", "new_tensor", "from_numpy", "tolist", "item", "numpy"}
WAITING = {"nonzero", "item", "_local_scalar_dense", "masked_select", "is_nonzero", "equal"}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def settings(frame_size=(72, 96), embedding="track_head", one_label=True):
    return StaticSettings(
        frame_size=frame_size,
        input_size=SIZE,
        padded_size=SIZE,
        mean=(120.0, 110.0, 100.0),
        std=(60.0, 58.0, 57.0),
        max_per_image=7,
        one_label_per_query=one_label,
        mask_threshold=0.5,
        embedding=embedding,
    )


def random_frames(batch, height, width):
    noise = torch.randint(0, 256, (batch, 3, height // 8, width // 8)).float()
    smooth = torch.nn.functional.interpolate(noise, (height, width), mode="bilinear")
    return smooth.permute(0, 2, 3, 1).contiguous().to(torch.uint8)


def plain_answers(model, frames, given):
    """Detections of the plain model on the network input of the static form."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (given.mean, given.std))
    images = to_network_input(frames, given.input_size, given.padded_size, mean, std)
    count = len(frames)
    return detect(
        model,
        images,
        [given.input_size] * count,
        [given.frame_size] * count,
        score_threshold=0.0,
        max_per_image=given.max_per_image,
        one_label_per_query=given.one_label_per_query,
        embedding=given.embedding,
    )


@pytest.mark.parametrize("one_label", [True, False])
@pytest.mark.parametrize("embedding", ["track_head", "query", None])
@pytest.mark.parametrize(
    ("backbone", "mask"),
    [("resnet18", {"flow": True}), ("tf_efficientnet_lite0", {"norm": "GN"})],
)
def test_the_cuda_form_gives_the_outputs_of_the_plain_model(backbone, mask, embedding, one_label):
    model, given = build(backbone, **mask), settings(embedding=embedding, one_label=one_label)
    frames = random_frames(2, *given.frame_size)
    expected = plain_answers(model, frames, given)
    static = StaticDetector(to_cuda_form(model), given)
    with torch.inference_mode():
        found = static(frames)
    for index, plain in enumerate(expected):
        assert torch.equal(found.labels[index].long(), plain.labels)
        assert_equal_to_rounding(found.scores[index], plain.scores, least=1e-5)
        assert_equal_to_rounding(found.boxes[index], plain.boxes, least=PIXELS)
        assert_equal_to_rounding(found.mask_logits[index], plain.mask_logits, least=ROI_LOGITS)
        if embedding is None:
            assert found.embeddings.shape[2] == 0
        else:
            assert_equal_to_rounding(found.embeddings[index], plain.embeddings, EMBEDDINGS)


def test_the_cuda_form_exports_with_static_shapes_and_no_host_synchronisation():
    """``torch.export`` refuses shapes that depend on data; no operator waits for the device."""
    model = to_cuda_form(build())
    program = torch.export.export(
        StaticDetector(model, settings()), (random_frames(2, 72, 96),), strict=False
    )
    nodes = [node for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    names = {node.target._schema.name.partition("::")[2] for node in nodes}
    assert "roi_align" in names
    assert not names & WAITING
    assert not any(
        isinstance(side, torch.SymInt)
        for node in nodes
        if isinstance(value := node.meta.get("val"), torch.Tensor)
        for side in value.shape
    )


def test_nothing_is_sent_to_the_device_while_it_runs():
    """A tensor made of numbers of the host cannot be captured in a CUDA graph."""
    model = to_cuda_form(build())
    detector = StaticDetector(model, settings())
    frames = random_frames(1, 72, 96)

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            name = getattr(function, "__name__", "")
            if not (args and isinstance(args[0], torch.Tensor) and name == "as_tensor"):
                assert name not in SENDING
            return function(*args, **(kwargs or {}))

    with torch.inference_mode(), Watch():
        detector(frames)


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_masks_are_pasted_as_on_the_host(threshold):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 28, 28, generator=generator) * 3
    boxes = torch.tensor(
        [
            [3.2, 4.9, 50.1, 40.0],
            [-10.0, -5.0, 30.0, 200.0],  # beyond the frame
            [20.0, 20.0, 20.0, 20.0],  # a point
            [60.0, 10.0, 90.5, 71.0],
            [300.0, 300.0, 400.0, 400.0],  # outside
            [40.0, 30.0, 30.0, 20.0],  # inside out
        ]
    )
    whole = paste(logits, boxes, (72, 96), threshold)
    for mask, expected in zip(whole, paste_masks(logits, boxes, (72, 96), threshold), strict=True):
        pixels = np.zeros((72, 96), bool)
        expected.write(pixels)
        assert np.count_nonzero(mask.numpy() != pixels) <= 2  # at the threshold, by rounding


def test_transitions_equal_coco_run_lengths():
    logits = torch.randn(5, 28, 28, generator=torch.Generator().manual_seed(2)) * 4
    boxes = torch.tensor([[0.0, 0.0, 96.0, 72.0]] * 4 + [[200.0, 0.0, 210.0, 9.0]])
    positions, counts = find_run_boundaries(logits, boxes, (72, 96), 0.5, capacity=2000)
    assert counts[-1] == 0  # an empty mask
    for row, mask in enumerate(paste(logits, boxes, (72, 96), 0.5)):
        boundaries = positions[row, : counts[row]].numpy()
        runs = np.diff(boundaries, prepend=0, append=mask.numel())
        flat = np.repeat(np.arange(len(runs)) % 2, runs).reshape(96, 72).T
        assert np.array_equal(flat.astype(bool), mask.numpy())
        assert (positions[row, counts[row] :] == mask.numel()).all()


def run(model, config, frames, embedding="track_head"):
    return StaticRunner(model).detect(frames, config, torch.float32, embedding)


def static_model(**inference):
    config = tiny_config()
    config.model.track.enabled = True
    config.inference = InferenceConfig(**{"score_threshold": 0.0, **inference})
    torch.manual_seed(3)
    return distinct_model(config), config


@pytest.mark.parametrize(
    "inference",
    [
        {},
        {"one_label_per_query": True, "nms_threshold": 0.5},
        {"one_label_per_query": True, "nms_threshold": 0.5, "nms_overlap": "masks"},
        {"score_threshold": 1.0},
    ],
    ids=["plain", "box suppression", "mask suppression", "nothing strong enough"],
)
def test_a_detector_in_cuda_form_gives_the_same_detections(inference):
    model, config = static_model(**inference)
    frames = [draw_frame(0), draw_frame(2)]
    expected = Detector(copy.deepcopy(model), config).detect_frames(frames)
    found = Detector(to_cuda_form(model), config).detect_frames(frames)
    for ours, plain in zip(found, expected, strict=True):
        assert torch.equal(ours.labels, plain.labels)
        assert_equal_to_rounding(ours.boxes, plain.boxes, least=PIXELS)
        assert_equal_to_rounding(ours.embeddings, plain.embeddings, EMBEDDINGS)
        assert ours.image_size == plain.image_size == (HEIGHT, WIDTH)
        differing = (ours.masks() != plain.masks()).sum(dim=(1, 2))
        assert (differing <= 8).all()
        assert [encode_rle(mask.numpy()) for mask in ours.masks()] == ours.rles()


def test_a_mask_with_too_many_transitions_is_pasted_on_the_host(monkeypatch):
    monkeypatch.setattr("queryinst_vis.models.cuda.detect.BOUNDARIES_PER_COLUMN", 1)
    model, config = static_model()
    frames = [draw_frame(0)]
    expected = Detector(copy.deepcopy(model), config).detect_frames(frames)
    [found] = run(to_cuda_form(model), config, frames)
    assert ((found.masks() != expected[0].masks()).sum(dim=(1, 2)) <= 8).all()


def test_a_batch_of_several_frame_sizes_uses_the_plain_model():
    model, config = static_model()
    frames = [draw_frame(0), draw_frame(1)[:, :80]]
    expected = Detector(copy.deepcopy(model), config).detect_frames(frames)
    found = Detector(to_cuda_form(model), config).detect_frames(frames)
    for ours, plain in zip(found, expected, strict=True):
        assert ours.image_size == plain.image_size
        assert_equal_to_rounding(ours.boxes, plain.boxes, least=PIXELS)


def test_results_are_not_overwritten_by_the_next_frames():
    model, config = static_model()
    detector = Detector(to_cuda_form(model), config)
    [first] = detector.detect_frames([draw_frame(0)])
    boxes, masks = first.boxes.clone(), first.rles()
    detector.detect_frames([draw_frame(3)])
    assert torch.equal(first.boxes, boxes)
    assert first.rles() == masks


def test_a_tracker_of_this_form_can_be_pickled():
    model, config = static_model(score_threshold=0.05)
    tracker = VideoTracker(Detector(to_cuda_form(model), config))
    expected = tracker.update(draw_frame(0))
    again = pickle.loads(pickle.dumps(tracker))
    again.reset()
    assert torch.equal(again.update(draw_frame(0)).boxes, expected.boxes)


@pytest.mark.parametrize("size", [(48, 64), (33, 47), (144, 192)])
def test_frames_are_resized_as_on_the_host(size):
    import cv2

    frames = random_frames(1, 72, 96)
    padded = tuple(-(-side // 32) * 32 for side in size)
    zero, one = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    found = to_network_input(frames, size, padded, zero, one)
    assert found.shape == (1, 3, *padded)
    assert found[:, :, size[0] :].abs().sum() == found[..., size[1] :].abs().sum() == 0
    expected = cv2.resize(frames[0].numpy(), size[::-1], interpolation=cv2.INTER_LINEAR)
    inner = found[0, :, : size[0], : size[1]].permute(1, 2, 0).numpy()
    assert np.abs(inner - expected).max() <= 1


def test_half_precision_is_refused_on_a_cpu():
    model, config = static_model(precision="16-mixed")
    with pytest.raises(InputError, match=r"16-mixed.*CUDA"):
        optimize_for_inference(model, config)


@needs_gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_gpu_replays_a_graph_with_the_results_of_the_cpu(precision):
    model, config = static_model(precision=precision)
    expected = Detector(copy.deepcopy(model), config).detect_frames([draw_frame(1)])
    detector = Detector(*optimize_for_inference(model.cuda(), config))
    tolerance = 0.05 if precision == "32-true" else 4.0  # pixels
    for _ in range(4):  # launched one by one, captured, replayed
        [found] = detector.detect_frames([draw_frame(1)])
        assert found.boxes.device.type == "cpu"
        if precision == "32-true":
            assert torch.equal(found.labels, expected[0].labels)
            assert (found.boxes - expected[0].boxes).abs().max() < tolerance


def test_trackers_in_several_threads_share_a_runner():
    model, config = static_model()
    model = to_cuda_form(model)
    runner = StaticRunner(model)
    frames = [draw_frame(index) for index in (0, 5)]
    expected = [run(model, config, [frame]) for frame in frames]

    def detect(number):
        found = []
        for _ in range(5):
            found += runner.detect([frames[number]], config, torch.float32, "track_head")
        return found

    with ThreadPoolExecutor(2) as pool:
        for number, found in enumerate(pool.map(detect, range(2))):
            for detections in found:
                assert torch.equal(detections.boxes, expected[number][0].boxes)
