"""Training in several processes: the result of one process, and an end that all of them share."""

import socket

import pytest

from queryinst_vis.checkpoints.training_state import load_training_state
from queryinst_vis.training import evaluate as evaluation
from queryinst_vis.training.train import train
from tests.tiny import tiny_config, write_images
from tests.training_support import metric, run_python, write_yaml


def run_two_processes(script, folder):
    """Run a script in two processes, as ``torchrun`` starts them."""
    path = folder / "script.py"
    path.write_text(script)
    return run_python(
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(path)
    )


UNREADABLE = """
import sys
import queryinst_vis.training.trainer as trainer
from queryinst_vis.config import load_config
from queryinst_vis.errors import InputError
from queryinst_vis.training.train import train

class Reading:
    def __init__(self, batches, rank):
        self.batches, self.rank, self.left = batches, rank, {steps}

    def __iter__(self):
        return self

    def __next__(self):
        self.left -= 1
        if self.rank == 1 and self.left < 0:
            raise InputError("image 7.jpg: cut short")
        return next(self.batches)

load_batches = trainer.load_batches
trainer.load_batches = lambda samples, config, start, rank, processes: Reading(
    load_batches(samples, config, start, rank, processes), rank
)
config = load_config({config!r})
try:
    train(config, {work_dir!r})
except InputError as error:
    print("first process:", error)
    sys.exit(2)
"""


def test_an_unreadable_image_in_one_process_ends_all_with_one_message(tmp_path):
    steps = 2
    config = tiny_config(train=write_images(tmp_path / "images"), track=False)
    write_yaml(tmp_path / "config.yaml", config)
    work_dir = tmp_path / "run"
    script = UNREADABLE.format(
        steps=steps, config=str(tmp_path / "config.yaml"), work_dir=str(work_dir)
    )
    done = run_two_processes(script, tmp_path)
    assert done.returncode != 0
    assert done.stdout.count("first process: image 7.jpg: cut short") == 1
    assert load_training_state(work_dir / "last.ckpt").step == steps
    assert done.stderr.count(f"the state after step {steps} is saved; continue with:") == 1


PAIR = """
from queryinst_vis.config import load_config
from queryinst_vis.training.evaluate import test_video
from queryinst_vis.training.train import train

config = load_config({config!r}, ["train.batch_size=1"])
train(config, {work_dir!r})
test_video(config, {work_dir!r} + "/final.safetensors", {work_dir!r} + "/results.json")
"""


@pytest.mark.slow
def test_two_processes_train_and_test_like_one_with_the_same_total_batch(tmp_path, tiny_videos):
    """Two processes with one pair each see the gradients of one process with two pairs."""
    config = tiny_config(train=tiny_videos, val=tiny_videos)
    config.model.mask.norm = "GN"  # batch norm alone depends on how a batch is split
    config.train.max_steps = 2
    work_dir = tmp_path / "two"
    write_yaml(tmp_path / "config.yaml", config)
    script = PAIR.format(config=str(tmp_path / "config.yaml"), work_dir=str(work_dir))
    done = run_two_processes(script, tmp_path)
    assert done.returncode == 0, done.stderr

    train(config, tmp_path / "one", devices=1)
    for name in ("loss", "grad_norm"):
        one, two = (metric(folder, name) for folder in (tmp_path / "one", work_dir))
        assert one[1] == pytest.approx(two[1], rel=1e-4), name
    weights = work_dir / "final.safetensors"
    evaluation.test_video(config, weights, tmp_path / "results.json", devices=1)
    assert (tmp_path / "results.json").read_text() == (work_dir / "results.json").read_text()


UNEVEN = """
import copy, sys
import torch
from torch.nn.parallel import DistributedDataParallel
from queryinst_vis.config import load_config
from queryinst_vis.losses.criterion import Criterion
from queryinst_vis.models.build import build_model
from queryinst_vis.structures import Batch, Target
from queryinst_vis.training.launch import launch
from queryinst_vis.training.step import TrainingStep, zero_of_unused

def batch(instances, with_masks):
    boxes = torch.tensor([[20.0, 10, 70, 60], [60, 40, 120, 90]])[:instances]
    masks = torch.zeros(instances, 96, 128, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
        mask[y0:y1, x0:x1] = with_masks
    known = torch.full((instances,), with_masks)
    labels = torch.zeros(instances, dtype=torch.int64)
    target = Target(boxes, labels, masks, labels, (96, 128), known)
    return Batch(torch.randn(1, 3, 96, 128), [target])

torch.manual_seed(0)
config = load_config({config!r})
model = build_model(config)
criterion = Criterion(config.losses)
fabric = launch()
assert fabric.world_size == 2 and torch.distributed.get_backend() == "gloo"
reference = copy.deepcopy(model)
module = fabric.setup_module(TrainingStep(model, criterion).train())
finding = DistributedDataParallel(
    TrainingStep(reference, criterion).train(), find_unused_parameters=True
)
whole, boxes, nothing = (2, True), (2, False), (0, True)
for kinds in ((whole, whole), (whole, boxes), (nothing, whole), (boxes, nothing), (whole, whole)):
    torch.manual_seed(fabric.global_rank)
    mine = batch(*kinds[fabric.global_rank])
    loss = sum(module(mine).values())
    unused = zero_of_unused(loss, model)
    fabric.backward(loss + unused)
    sum(finding(mine).values()).backward()
    for (name, ours), theirs in zip(model.named_parameters(), reference.parameters()):
        assert (ours.grad is not None) == ours.requires_grad, (kinds, name)
        if theirs.grad is None:
            assert ours.grad is None or not ours.grad.any(), (kinds, name)
        else:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)
        ours.grad = theirs.grad = None
"""


def test_gradients_agree_with_ddp_when_processes_use_different_heads(tmp_path):
    """Boxes without masks, or no instances, in one process or both; the track head is unused."""
    config = tiny_config()
    config.model.track.enabled = True
    write_yaml(tmp_path / "config.yaml", config)
    script = UNEVEN.format(config=str(tmp_path / "config.yaml"))
    done = run_two_processes(script, tmp_path)
    assert done.returncode == 0, done.stderr


def test_missing_nodes_end_in_one_line_after_the_timeout(tmp_path, tiny_images):
    write_yaml(tmp_path / "recipe.yaml", tiny_config(train=tiny_images, track=False))
    code = (
        "import sys; from datetime import timedelta; from queryinst_vis.training import launch;"
        "launch.NODE_TIMEOUT = timedelta(seconds=2); from queryinst_vis.cli import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [tmp_path / "recipe.yaml", "--work-dir", tmp_path / "run", "--devices", 1, "--nodes", 2]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    done = run_python("-c", code, "train", *map(str, words), **address)
    assert done.returncode == 2, done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert f"error: not all 2 nodes connected to 127.0.0.1:{port} within 2 s" in message
