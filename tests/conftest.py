"""One thread for every test and the processes that it starts; tiny sets of images and videos.

Sums depend on the number of threads in their last bits, and exact resume is tested across
processes; the tensors of the tests are too small to gain from more.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported anywhere

import pytest


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
