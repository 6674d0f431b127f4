"""Several processes of a training end together, whatever ends one of them."""

from test_train import run_python, write_yaml
from tiny import tiny_config, write_images

from queryinst_vis.checkpoints.training_state import load_training_state

SCRIPT = """
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


def test_an_image_that_only_one_process_cannot_read(tmp_path):
    steps = 2
    config = tiny_config(train=write_images(tmp_path / "images"), track=False)
    write_yaml(tmp_path / "config.yaml", config)
    work_dir = tmp_path / "run"
    script = SCRIPT.format(
        steps=steps, config=str(tmp_path / "config.yaml"), work_dir=str(work_dir)
    )
    (tmp_path / "pair.py").write_text(script)
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    done = run_python(*launcher, str(tmp_path / "pair.py"))
    assert done.returncode != 0
    assert done.stdout.count("first process: image 7.jpg: cut short") == 1
    assert load_training_state(work_dir / "last.ckpt").step == steps
    assert done.stderr.count(f"the state after step {steps} is saved; continue with:") == 1
