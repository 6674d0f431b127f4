"""Whichever process of a run is killed, every video is tracked once, with identical tables."""

import sys

import pytest

pytest.importorskip("pyarrow", reason="the tables are Parquet: extra 'batch'")
pytest.importorskip("psutil", reason="finds the processes to kill")

from benchmarks import batch_kills

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes as Linux has them"),
]


def run(monkeypatch, folder, *words):
    monkeypatch.setattr(sys, "argv", ["batch_kills", str(folder), *words])
    return batch_kills.main()


def test_runs_that_are_killed_and_taken_up_again_give_the_same_tables(
    tmp_path, monkeypatch, capsys
):
    assert run(monkeypatch, tmp_path, "--clips=8", "--kills=6", "--engines=local") == 0
    printed = capsys.readouterr().out
    assert "killed 6 times" in printed and printed.count("identical") == 5


def test_a_node_of_a_cluster_is_killed_and_all_videos_are_done(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ray", reason="the engine needs Ray: extra 'ray'")
    assert run(monkeypatch, tmp_path, "--clips=8", "--kills=0", "--engines=ray") == 0
    assert "two nodes, one of them killed (exit status 0): identical" in capsys.readouterr().out
