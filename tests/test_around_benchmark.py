"""The benchmark of pre- and post-processing, alone and against another checkout."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STEPS = ["decode", "resize and normalise", "detect cuts", "associate", "paste masks"]
STEPS += ["encode RLE", "store", "draw", "encode", "track", "track --no-video"]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))  # where its own imports lie
    return import_module("around_network")


def test_every_step_around_the_network_is_timed(benchmark, tmp_path):
    benchmark.prepare("160x96", 24, tmp_path)
    found = benchmark.measure("160x96", tmp_path)
    assert list(found["milliseconds"]) == STEPS
    assert found["psnr"] > 30 and found["kilobytes"] > 1


def test_two_checkouts_are_measured_in_turn_and_reported_side_by_side(
    benchmark, tmp_path, monkeypatch, capsys
):
    turns = []

    def measure(checkout, size, folder):
        turns.append((checkout, size))
        figure = 2.0 * len(turns)
        return {"milliseconds": dict.fromkeys(STEPS, figure), "kilobytes": 9, "psnr": 40}

    monkeypatch.setattr(benchmark, "measure_in_process", measure)
    other, out = tmp_path / "before", tmp_path / "around.json"
    words = ["--compare", str(other), "--size", "160x96", "--frames", "24", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["around_network.py", *words, "--rounds", "3"])
    assert benchmark.main() == 0
    assert turns == [(other, "160x96"), (benchmark.ROOT, "160x96")] * 3
    content = json.loads(out.read_text())
    figures = content["sizes"]["160x96"]
    assert figures["before"]["milliseconds"]["draw"] == 6  # the median of 2, 6 and 10
    assert figures["here"]["milliseconds"]["draw"] == 8
    assert content["machine"]["cpu_flags"]
    assert "before" in capsys.readouterr().out
