"""Training checkpoints are read without executing code in them."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from queryinst_vis.checkpoints.reading import read_checkpoint
from queryinst_vis.errors import InputError


class Sneaky:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def history_buffer(monkeypatch):
    """mmengine's class by its full name, which vanishes before the file is read."""

    class HistoryBuffer:
        def __init__(self, values):
            self.max_length = 1000000
            self._log_history = np.array(values)
            self._count_history = np.ones(len(values), dtype=np.int64)

    name = "mmengine.logging.history_buffer"
    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = name, "HistoryBuffer"
    for module in ("mmengine", "mmengine.logging", name):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    sys.modules[name].HistoryBuffer = HistoryBuffer
    return HistoryBuffer


def test_a_training_checkpoint_of_mmengine_is_loaded(tmp_path, history_buffer, monkeypatch):
    """As mmengine's Runner saves it: logs, metadata and the optimiser beside the weights."""
    content = {
        "meta": {"epoch": 12, "iter": 87960, "dataset_meta": {"classes": ("cat", "dog")}},
        "state_dict": {"w": torch.arange(3.0)},
        "message_hub": {
            "log_scalars": {"train/loss": history_buffer([3.5, 2.5])},
            "runtime_info": {"iter": 87960, "best_score": np.float64(0.42)},
        },
        "optimizer": {"state": {}, "param_groups": [{"lr": 2.5e-5, "params": [0]}]},
    }
    torch.save(content, tmp_path / "epoch_12.pth")
    monkeypatch.undo()
    assert "mmengine" not in sys.modules
    checkpoint = read_checkpoint(tmp_path / "epoch_12.pth")
    assert list(checkpoint.state_dict) == ["w"]
    assert torch.equal(checkpoint.state_dict["w"], torch.arange(3.0))
    assert checkpoint.classes == ["cat", "dog"]
    assert "mmengine" not in sys.modules


def test_class_names_of_mmcv_are_read(tmp_path):
    state = {"w": torch.zeros(1)}
    torch.save({"meta": {"CLASSES": ["cat"]}, "state_dict": state}, tmp_path / "mmcv.pth")
    assert read_checkpoint(tmp_path / "mmcv.pth").classes == ["cat"]
    torch.save({"meta": {"CLASSES": None}, "state_dict": state}, tmp_path / "none.pth")
    assert read_checkpoint(tmp_path / "none.pth").classes is None
    torch.save(state, tmp_path / "bare.pth")
    assert read_checkpoint(tmp_path / "bare.pth").classes is None


def test_stand_in_modules_are_removed_after_loading(tmp_path):
    # a set: torch keeps these in one, and lists it in any order
    before = set(torch.serialization.get_safe_globals())
    torch.save({"w": torch.zeros(1)}, tmp_path / "w.pth")
    read_checkpoint(tmp_path / "w.pth")
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("place", ["hook", "meta", "state_dict"])
def test_code_in_a_checkpoint_is_refused_by_name_and_not_executed(tmp_path, place):
    content = {"state_dict": {"w": torch.zeros(1)}, "meta": {}, "hook": {}}
    content[place]["x"] = Sneaky(tmp_path / "executed")
    torch.save(content, tmp_path / "sneaky.pth")
    with pytest.raises(InputError, match=r"'getattr'.* not executed") as caught:
        read_checkpoint(tmp_path / "sneaky.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_unknown_classes_are_refused_by_name(tmp_path):
    torch.save({"state_dict": {"w": torch.zeros(1)}, "cfg": Path("x")}, tmp_path / "path.pth")
    with pytest.raises(InputError, match=r"contains 'pathlib\.\S*Path'"):
        read_checkpoint(tmp_path / "path.pth")


def test_a_stand_in_in_the_place_of_a_tensor_is_refused(tmp_path):
    torch.save({"state_dict": {"w": np.zeros(2)}}, tmp_path / "array.pth")
    with pytest.raises(InputError, match=r"'w' .*tensor"):
        read_checkpoint(tmp_path / "array.pth")


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_checkpoint(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(InputError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "text.pth")
    torch.save({"w": torch.zeros(1000)}, tmp_path / "whole.pth")
    half = (tmp_path / "whole.pth").read_bytes()[:1000]
    (tmp_path / "half.pth").write_bytes(half)
    with pytest.raises(InputError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "half.pth")
    for content in ([torch.zeros(1)], {"state_dict": {}}):
        torch.save(content, tmp_path / "empty.pth")
        with pytest.raises(InputError, match="no state_dict"):
            read_checkpoint(tmp_path / "empty.pth")
