"""``average-weights``: the mean of several training runs of one model."""

import pytest
import torch
from safetensors import safe_open

from queryinst_vis.checkpoints.average import average_weights
from queryinst_vis.checkpoints.load import load_model
from queryinst_vis.checkpoints.weights import load_weights, save_weights
from queryinst_vis.cli import main
from queryinst_vis.errors import InputError
from queryinst_vis.models.build import build_model
from tests.tiny import tiny_config


def write(path, seed, half=False, **changes):
    config = tiny_config(**{"track": True, **changes})
    torch.manual_seed(seed)
    save_weights(path, build_model(config), config, half)
    return path


def test_the_mean_of_two_models_and_the_track_head_of_one(tmp_path):
    image = write(tmp_path / "image.safetensors", 0, track=False)
    pairs = write(tmp_path / "pairs.safetensors", 1)
    words = ["average-weights", image, pairs, tmp_path / "mean.safetensors"]
    assert main([str(word) for word in words]) == 0
    words[1:3] = words[2:0:-1]  # in any order
    assert main([str(word) for word in words]) == 0
    (config, mean), (_, first), (_, second) = map(
        load_weights, (tmp_path / "mean.safetensors", image, pairs)
    )
    assert config.model.track.enabled and mean.keys() == second.keys()
    for name, value in mean.items():
        expected = second[name]
        if name in first and expected.is_floating_point():
            expected = (first[name] + second[name]) / 2
        assert torch.equal(value, expected), name
    assert any(name.startswith("track_head") for name in mean.keys() - first.keys())
    load_model(tmp_path / "mean.safetensors", "cpu")


def test_half_precision_is_averaged_in_single_precision(tmp_path):
    paths = [write(tmp_path / f"{seed}.safetensors", seed, half=True) for seed in range(3)]
    said = average_weights(paths, tmp_path / "mean.safetensors")
    assert "the mean of 3 files" in said
    with safe_open(tmp_path / "mean.safetensors", framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} <= {"F32", "I64"}  # noqa: SIM118


def test_different_models_are_refused(tmp_path):
    config = tiny_config()
    config.model.classes = ["other", "names"]
    torch.manual_seed(0)
    other = tmp_path / "other.safetensors"
    save_weights(other, build_model(config), config)
    mine = write(tmp_path / "mine.safetensors", 0)
    with pytest.raises(InputError, match=r"other\.safetensors: .*model\.classes is"):
        average_weights([other, mine], tmp_path / "mean.safetensors")
    config = tiny_config()
    config.model.num_heads //= 2
    save_weights(other, build_model(config), config)
    with pytest.raises(InputError, match=r"model\.num_heads is 2"):
        average_weights([other, mine], tmp_path / "mean.safetensors")
    config = tiny_config()
    config.model.num_queries += 1
    save_weights(other, build_model(config), config)
    with pytest.raises(InputError, match=r"model\.num_queries is 6"):
        average_weights([other, mine], tmp_path / "mean.safetensors")
    with pytest.raises(InputError, match="two or more"):
        average_weights([mine], tmp_path / "mean.safetensors")
    with pytest.raises(InputError, match="is also an input"):
        average_weights([mine, mine], mine)
    assert not (tmp_path / "mean.safetensors").exists()
