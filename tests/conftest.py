"""One thread for every test and the processes that it starts; tiny sets of images and videos.

Sums depend on the number of threads in their last bits, and exact resume is tested across
processes; the tensors of the tests are too small to gain from more.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported anywhere

import pytest
import torch

# The core: arithmetic, metrics, identities, file formats, and one video from end to end.
QUICK = {
    "test_association",
    "test_config",
    "test_detections",
    "test_eval_youtube_vis",
    "test_formats_agreement",
    "test_fused",
    "test_golden_masktrack",
    "test_golden_queryinst",
    "test_inference",
    "test_layers",
    "test_losses",
    "test_masks",
    "test_motion_rules",
    "test_results",
    "test_run_lengths",
    "test_track_video",
    "test_tracking",
    "test_tracking_metrics",
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in QUICK and "slow" not in item.keywords:
            item.add_marker("quick")


@pytest.fixture(scope="session", autouse=True)
def _auto_is_the_cpu():
    """``device="auto"`` is the CPU, here and in processes that tests start, also beside a GPU.

    Tests compare exact numbers with those of models on the CPU. Those of CUDA name the device.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.accelerator, "is_available", lambda: False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture
def images(tmp_path):
    """Annotation file and image folder of ``data_support.coco_content``."""
    from data_support import coco_content, write_set

    return write_set(tmp_path / "coco", coco_content())


@pytest.fixture
def videos(tmp_path):
    """Annotation file and image folder of ``data_support.video_content``."""
    from data_support import video_content, write_set

    return write_set(tmp_path / "videos", video_content())
