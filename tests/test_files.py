"""Atomic files: complete, together, or not at all, without leftovers."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from queryinst_vis.checkpoints.catalogue import CACHE_VARIABLE, cache_folder
from queryinst_vis.cli import main
from queryinst_vis.errors import InputError
from queryinst_vis.training import work_dir
from queryinst_vis.utils import files
from queryinst_vis.utils.files import (
    atomic_folder,
    atomic_path,
    files_together,
    read_json,
    temporary_folder,
    write_json_atomically,
)
from queryinst_vis.utils.interrupt import (
    SIGNALS,
    StopRequest,
    Terminated,
    raise_when_terminated,
    signals_held,
)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_written_together_appear_all_or_none(tmp_path: Path) -> None:
    with files_together():
        write_json_atomically(tmp_path / "a.json", 1)
        assert not (tmp_path / "a.json").exists()
        write_json_atomically(tmp_path / "b.json", 2)
    assert _names(tmp_path) == ["a.json", "b.json"]
    with pytest.raises(KeyboardInterrupt), files_together():
        write_json_atomically(tmp_path / "c.json", 3)
        raise KeyboardInterrupt
    assert _names(tmp_path) == ["a.json", "b.json"]


def test_a_signal_between_two_files_is_delivered_after_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        signal.raise_signal(signal.SIGINT)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    # a shell starts background jobs with SIGINT ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), files_together():
            write_json_atomically(tmp_path / "a.json", 1)
            write_json_atomically(tmp_path / "b.json", 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert _names(tmp_path) == ["a.json", "b.json"]


def test_if_one_file_cannot_be_replaced_none_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*b\.json"), files_together():
        write_json_atomically(tmp_path / "a.json", 1)
        write_json_atomically(tmp_path / "b.json", 2)
        (tmp_path / "b.json").mkdir()
    assert _names(tmp_path) == ["b.json"]


@pytest.mark.parametrize("name", ["atomic_path", "new_folder"])
def test_files_of_dead_processes_are_removed(tmp_path: Path, name: str) -> None:
    killed = (
        f"import os, signal, sys; from queryinst_vis.utils.files import {name} as make\n"
        f"with make(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", killed, tmp_path / "a.png"], check=False)
    assert len(_names(tmp_path)) == 1
    alive = tmp_path / f".a-{files.machine_id()}-{os.getppid()}-0123abcd.png"
    elsewhere = tmp_path / ".a-00000000-1-0123abcd.png"
    alive.touch()
    elsewhere.touch()
    write_json_atomically(tmp_path / "b.json", 1)
    assert _names(tmp_path) == sorted([alive.name, elsewhere.name, "b.json"])


def test_temporary_files_of_dead_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = (
        "import os, signal; from queryinst_vis.utils.files import temporary_folder\n"
        "with temporary_folder() as folder:\n"
        "    (folder / 'clip.mp4').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", killed], check=False, env=environment)
    assert len(_names(tmp_path)) == 1
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert _names(tmp_path) == [folder.name]
        assert folder.stat().st_mode & 0o777 == 0o700
    assert _names(tmp_path) == []


def test_second_files_of_dead_processes_are_removed_and_folders_need_not_be_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    second = tmp_path / f".m-{files.machine_id()}-{dead.pid}-0123abcd.onnx.data"
    second.touch()

    def refuse(folder: Path) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        write_json_atomically(tmp_path / "a.json", 1)
    assert second.exists()
    write_json_atomically(tmp_path / "b.json", 1)
    assert _names(tmp_path) == ["a.json", "b.json"]


def test_temporary_names_are_registered_before_the_files_exist(tmp_path: Path) -> None:
    context = atomic_path(tmp_path / "a.json")
    context.__enter__()  # as if a signal came before the block began
    files.remove_temporaries()
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("No space left on device")],
)
def test_a_full_disk_names_the_file(tmp_path: Path, error: Exception) -> None:
    def fill(path: Path) -> None:
        with atomic_path(path) as outer, atomic_path(outer):
            raise error

    with pytest.raises(InputError, match=r"cannot write .*/a\.png: No space left on device"):
        fill(tmp_path / "a.png")
    assert _names(tmp_path) == []


def test_file_names_of_maximum_length_are_supported(tmp_path: Path) -> None:
    name = "é" * 125 + ".json"
    write_json_atomically(tmp_path / name, 1)
    assert _names(tmp_path) == [name]


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""As in containers and cron jobs: names of files have to be ASCII, or come as bytes."""


@pytest.mark.parametrize("locale", [{}, ASCII], ids=["usual", "ascii"])
@pytest.mark.parametrize("name", [b"caf\xe9", "é".encode(), "é".encode() * 120], ids=ascii)
def test_file_names_of_any_bytes_work_in_any_locale(
    tmp_path: Path, name: bytes, locale: dict[str, str]
) -> None:
    script = (
        "import os, sys; from queryinst_vis.utils.files import shortened, write_json_atomically\n"
        "folder, name = sys.argv[1:]\n"
        "write_json_atomically(f'{folder}/{name}.json', os.fsencode(shortened(name, 5)).hex())"
    )
    subprocess.run(
        [sys.executable, "-c", script, tmp_path, name], check=True, env={**os.environ, **locale}
    )
    assert os.listdir(os.fsencode(tmp_path)) == [name + b".json"]
    [path] = tmp_path.iterdir()
    whole = name if len(name) <= 5 else "éé".encode()
    assert bytes.fromhex(json.loads(path.read_bytes())) == whole


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json", "annotations") == {"a": 1}


def test_termination_raises_in_the_main_thread() -> None:
    with pytest.raises(Terminated, match="SIGTERM"), raise_when_terminated():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_held_signals_are_delivered_at_the_end(number: signal.Signals) -> None:
    reached = False
    with pytest.raises(Terminated), raise_when_terminated(), signals_held():
        signal.raise_signal(number)
        reached = True
    assert reached


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_requests_a_stop_and_the_second_one_stops(number: signal.Signals) -> None:
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
            signal.raise_signal(number)
            assert stop.requested
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as with nohup
    try:
        with raise_when_terminated(), StopRequest() as stop, signals_held():
            signal.raise_signal(signal.SIGHUP)
        assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def _run(words: list[str], stdout: int | IO[bytes]) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-c",
        "import sys; from queryinst_vis.cli import main; sys.exit(main())",
    ]
    return subprocess.Popen([*command, *words], stdout=stdout, stderr=subprocess.PIPE)


def test_a_closed_pipe_does_not_end_a_command() -> None:
    reading, writing = os.pipe()
    process = _run(["--help"], stdout=writing)
    os.close(reading)
    os.close(writing)
    assert process.communicate()[1] == b""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_on_standard_output_is_reported() -> None:
    with Path("/dev/full").open("wb") as full:
        process = _run(["weights"], stdout=full)
        errors = process.communicate()[1].decode()
    assert errors == (
        "queryinst-vis: error: cannot write standard output: No space left on device\n"
    )
    assert process.returncode == 2


def test_missing_permissions_end_a_command_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = tmp_path / "closed" / "clip.mp4"

    def refuse(self: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", refuse)  # as in a folder without search permission
    assert main(["track", str(closed), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"queryinst-vis: error: {closed}: Permission denied\n"


def test_without_a_home_folder_the_cache_must_be_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("XDG_CACHE_HOME", CACHE_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", refuse)
    with pytest.raises(InputError, match=f"no home folder.*set {CACHE_VARIABLE}"):
        cache_folder()


@pytest.mark.parametrize(
    ("interrupt", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (Terminated(signal.SIGTERM), 143, "stopped by SIGTERM"),
    ],
)
def test_an_error_in_a_library_that_handles_an_interrupt_is_an_interruption(
    interrupt: KeyboardInterrupt,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(_: list[str]) -> None:
        try:
            raise interrupt
        finally:
            raise AttributeError("half-built")

    monkeypatch.setattr("queryinst_vis.cli.parse_arguments", interrupted)
    assert main(["weights"]) == status
    assert capsys.readouterr().err == f"queryinst-vis: error: {message}\n"


def test_sigterm_ends_a_command_with_its_own_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "queryinst_vis.cli.parse_arguments", lambda _: os.kill(os.getpid(), signal.SIGTERM)
    )
    assert main(["weights"]) == 143
    assert capsys.readouterr().err == "queryinst-vis: error: stopped by SIGTERM\n"


def test_only_one_training_may_use_a_work_dir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_dir, "LOCK_TIMEOUT", 0.0)
    run = tmp_path / "runs" / "one"
    with (
        work_dir.locked(run),
        pytest.raises(InputError, match="in use"),
        work_dir.locked(run),
    ):
        pass
    assert not run.exists()
    with work_dir.locked(run):
        (run / "config.yaml").touch()
    assert _names(run) == ["config.yaml"]
    monkeypatch.setenv("LOCAL_RANK", "1")
    with work_dir.locked(run):
        assert _names(run) == ["config.yaml"]


def fill(folder: Path, text: str) -> None:
    (folder / "one.txt").write_text(text)


def test_a_folder_appears_when_its_block_ends_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    target = tmp_path / "crops"
    for text in ("first", "second"):
        with files_together(), atomic_path(tmp_path / "file.txt") as file:
            with atomic_folder(target) as folder:
                fill(folder, text)
                (folder / f"{text}.txt").touch()
            before = target.exists() and (target / "one.txt").read_text()
            assert before in (False, "first")
            file.write_text(text)
        assert {path.name for path in target.iterdir()} == {"one.txt", f"{text}.txt"}
        assert (target / "one.txt").read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {"crops", "file.txt"}


def test_a_replaced_folder_is_restored_if_another_file_cannot_be_moved(tmp_path: Path) -> None:
    target = tmp_path / "crops"
    target.mkdir()
    fill(target, "old")

    def write() -> None:
        with files_together():
            with atomic_folder(target) as folder:
                fill(folder, "new")
            with atomic_path(tmp_path / "file.txt") as file:
                file.write_text("new")
            (tmp_path / "file.txt").mkdir()
            (tmp_path / "file.txt" / "full").touch()

    with pytest.raises(InputError, match="cannot write"):
        write()
    assert (target / "one.txt").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"crops", "file.txt"}


def test_a_folder_does_not_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "crops").write_text("mine")
    with pytest.raises(InputError, match="is a file"), atomic_folder(tmp_path / "crops"):
        pass
    assert (tmp_path / "crops").read_text() == "mine"


def test_files_get_the_default_permissions_without_changing_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o027)
    # it is one for all threads, so changing it would also affect the files of others
    monkeypatch.setattr(os, "umask", None)
    write_json_atomically(tmp_path / "a.json", 1)
    monkeypatch.undo()
    os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o640
    assert _names(tmp_path) == ["a.json"]
