"""``inference.precision=auto``: the faster of float32 and bf16, measured once for a whole run."""

from __future__ import annotations

import json
from itertools import chain, repeat

import pytest
import torch

from queryinst_vis.checkpoints.weights import save_weights
from queryinst_vis.errors import InputError
from queryinst_vis.inference import precision
from queryinst_vis.inference.detector import Detector
from queryinst_vis.inference.optimize import optimize_for_inference
from queryinst_vis.inference.precision import candidates, fastest, inference_dtype
from queryinst_vis.inference.track import track_video
from queryinst_vis.models.build import build_model
from tests.tiny import draw_frame, tiny_config


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the measured calls advance."""

    class Clock:
        now = 0.0

        def way(self, *seconds):
            """A call that takes these seconds, one after another; the last is repeated."""
            times = chain(seconds, repeat(seconds[-1]))

            def run():
                self.now += next(times)

            return run

    clock = Clock()
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock.now)
    return clock


@pytest.mark.parametrize(
    ("float32", "bf16", "chosen"),
    [
        ((2.0,), (1.0,), "bf16-mixed"),
        ((1.0,), (2.0,), "32-true"),
        ((1.0,), (1.0,), "32-true"),  # less precision for no gain
        ((1.0,), (0.95,), "32-true"),  # or for almost no gain
        ((1.0,), (9.0, 0.5), "bf16-mixed"),  # the first run compiles kernels
        ((2.0,), (1.0, 9.0, 1.0), "bf16-mixed"),  # something else kept the machine busy
    ],
)
def test_bf16_is_chosen_only_if_clearly_faster(clock, float32, bf16, chosen):
    ways = {"32-true": clock.way(*float32), "bf16-mixed": clock.way(*bf16)}
    assert fastest(ways) == chosen


def test_a_precision_without_an_alternative_is_not_measured():
    assert fastest({"32-true": lambda: pytest.fail("measured")}) == "32-true"


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_bf16": False}, ["32-true"]),
        ({"avx512_bf16": True}, ["32-true", "bf16-mixed"]),
        ({"amx_bf16": True}, ["32-true", "bf16-mixed"]),
    ],
)
def test_a_cpu_without_bf16_instructions_computes_in_float32(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    config = tiny_config()
    config.inference.precision = "auto"
    assert candidates(config) == expected


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    config = tiny_config()
    save_weights(tmp_path / "tiny.safetensors", build_model(config), config)
    return tmp_path / "tiny.safetensors"


@pytest.mark.parametrize("chosen", ["32-true", "bf16-mixed"])
def test_the_precision_is_chosen_once_and_recorded_in_the_config(weights, chosen, monkeypatch):
    made = []
    counting = lambda ways: made.append(1) or chosen  # noqa: E731
    monkeypatch.setattr("queryinst_vis.inference.optimize.fastest", counting)
    detector = Detector.from_pretrained(weights, "cpu", ["inference.precision=auto"])
    for index in range(2):
        detector.detect_frames([draw_frame(index)])
    assert detector.config.inference.precision == chosen
    assert made == [1]
    named = Detector.from_pretrained(weights, "cpu", [f"inference.precision={chosen}"])
    [found], [expected] = (each.detect_frames([draw_frame(2)]) for each in (detector, named))
    assert torch.equal(found.scores, expected.scores)


def test_measuring_does_not_change_the_model(weights, monkeypatch):
    everywhere = {"amx_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: everywhere, raising=False)
    monkeypatch.setattr(precision, "WORTHWHILE", 0.0)  # so that float32 wins
    config = tiny_config()
    config.inference.precision = "auto"
    torch.manual_seed(0)
    model = build_model(config).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast, settled = optimize_for_inference(model, config)
    assert settled.inference.precision == "32-true"
    assert torch.equal(fast.queries, before["queries"])


def test_run_json_records_the_precision_chosen_by_auto(weights, tmp_path, monkeypatch):
    monkeypatch.setattr("queryinst_vis.inference.optimize.fastest", lambda ways: "bf16-mixed")
    frames = [draw_frame(index) for index in range(2)]
    overrides = ["inference.precision=auto"]
    track_video(frames, tmp_path / "out", weights, save=("json",), overrides=overrides)
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["precision"] == "bf16-mixed"
    assert run["options"]["overrides"] == overrides


def test_an_unknown_precision_is_refused_with_the_valid_ones():
    config = tiny_config()
    config.inference.precision = "fp8"
    choices = "32-true, bf16-mixed, 16-mixed, auto"
    with pytest.raises(InputError, match=f"inference.precision 'fp8': .*{choices}"):
        inference_dtype(config)
