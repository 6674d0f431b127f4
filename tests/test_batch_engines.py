"""Engines: even if workers die, every video is tracked once, with identical tables."""

import multiprocessing
import os
import signal

import pytest
import torch

from queryinst_vis import cli
from queryinst_vis.batch.local_engine import default_workers, run_local, worker_environment
from queryinst_vis.batch.options import RunOptions, VideoOptions
from queryinst_vis.batch.run import execute, plan_run
from queryinst_vis.batch.segments import Cutting
from queryinst_vis.utils.prefetch import available_cores
from tests.batch_support import find, inline_engine, write_clip, write_long_clip

parquet = pytest.importorskip("pyarrow.parquet", reason="the tables are Parquet: extra 'batch'")

OPTIONS = VideoOptions("shapes", max_size=64)


@pytest.fixture
def clips(tmp_path):
    for number in range(4):
        write_clip(tmp_path / "clips" / f"{number}.mp4", 3 + number)
    return tmp_path / "clips"


def run_of(out, **settings):
    return RunOptions(str(out), device="cpu", **settings)


def track(clips, run, engine):
    return execute(plan_run(find([clips], OPTIONS), run), run, engine)


def tables(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for table in ("tracks", "detections")
        for path in (out / table).iterdir()
    }


def inline_tables(clips, out):
    """The tables of an undisturbed run in this process."""
    run = run_of(out)
    assert track(clips, run, inline_engine(run)).done == 4
    return tables(out)


def killing_engine(run, after=1):
    """An engine with one worker, which is killed after some outcomes."""

    def engine(dispatcher):
        outcomes = 0
        for event in run_local(dispatcher, run, 1):
            yield event
            outcomes += event is not None
            if event is not None and outcomes == after:
                [worker] = [
                    each for each in multiprocessing.active_children() if "worker" in each.name
                ]
                os.kill(worker.pid, signal.SIGKILL)

    return engine


def test_killing_a_worker_loses_nothing(tmp_path, clips):
    run = run_of(tmp_path / "local", streams=2)
    summary = track(clips, run, killing_engine(run))
    assert (summary.done, summary.failures) == (4, [])
    assert tables(tmp_path / "local") == inline_tables(clips, tmp_path / "one")
    rows = parquet.read_table(tmp_path / "local" / "videos").to_pylist()
    assert sorted(row["frames"] for row in rows) == [3, 4, 5, 6]
    assert not [child for child in multiprocessing.active_children() if "worker" in child.name]


def test_killing_a_worker_between_segments_loses_nothing(tmp_path, clips):
    for clip in clips.iterdir():
        clip.unlink()
    write_long_clip(clips / "long.mp4", 40)
    runs = [run_of(tmp_path / name, cutting=Cutting(1.5, 0.5)) for name in ("local", "inline")]
    for run, engine in zip(runs, (killing_engine(runs[0], 2), inline_engine(runs[1])), strict=True):
        summary = track(clips, run, engine)
        assert (summary.done, summary.failures) == (1, [])
        assert summary.segments == summary.segments_tracked == 4
    assert tables(tmp_path / "local") == tables(tmp_path / "inline")
    assert not list((tmp_path / "local" / "segments").rglob("*.*"))


@pytest.mark.slow
def test_ray_gives_the_same_tables(tmp_path, clips):
    pytest.importorskip("ray", reason="the engine needs Ray: extra 'ray'")
    from queryinst_vis.batch.ray_engine import run_ray

    run = run_of(tmp_path / "ray", streams=2)
    summary = track(clips, run, lambda dispatcher: run_ray(dispatcher, run, 2, None))
    assert (summary.done, summary.failures) == (4, [])
    assert tables(tmp_path / "ray") == inline_tables(clips, tmp_path / "one")


def test_the_exit_status_is_1_if_a_video_failed(tmp_path, clips, capfd):
    (clips / "broken.mp4").write_bytes(b"no video")
    words = ["batch", str(clips), "--weights", "shapes", "--max-size", "64", "--workers", "1"]
    out = ["--out", str(tmp_path / "out"), "--device", "cpu"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, *out])
    assert ended.value.code == 1
    printed = capfd.readouterr().out
    assert printed.startswith("5 videos: 5 to track\n")
    assert "4 videos done" in printed and "broken (input)" in printed
    assert cli.main([*words, *out]) == 0
    assert "4 done before, 1 failed before" in capfd.readouterr().out
    assert cli.main(["batch", "--status", str(tmp_path / "out")]) == 0
    assert "4 done, 1 failed, 0 left" in capfd.readouterr().out
    assert cli.main(["batch", str(clips), "--weights", "nothing", *out]) == 2


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, ["0", "1", "0"]), ("4,GPU-8f2c", ["4", "GPU-8f2c", "4"]), ("", ["", "", ""])],
)
def test_workers_take_turns_on_the_gpus(monkeypatch, visible, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    devices = []
    for number in range(3):
        with worker_environment(number, RunOptions("out", device="cuda")):
            devices.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert devices == expected
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_a_single_device_gets_one_worker(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    devices = ["auto", "cuda", "cuda:1", "mps"]
    assert [default_workers(1, device) for device in devices] == [4, 4, 1, 1]
    assert default_workers(1, "cpu") == available_cores()
