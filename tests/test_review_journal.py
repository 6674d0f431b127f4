"""The journal: durability, integrity checks and recovery."""

import errno
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.review import Delete, Draw, Merge, ReviewSession, SetName, Split, Undo
from tests.review_support import journal_lines, line, shown, write_results

LENGTH = 8
DONE = (Split(1, 4), SetName(3, "Anna"), Merge(3, 2, "keep first"), Undo())


@pytest.fixture
def folder(tmp_path):
    return write_results(tmp_path, {1: line(range(LENGTH), 2), 2: line(range(2, 6), 12)}, LENGTH)


@pytest.fixture
def journal(folder):
    """A journal of four actions."""
    with ReviewSession.open(folder) as session:
        for number, action in enumerate(DONE):
            session.apply(action, f"record {number}")
    return folder / "tracks.jsonl.review" / "journal.jsonl"


def names(folder):
    with ReviewSession.open(folder) as session:
        return {track.track_id: track.name for track in session.tracks()}


def test_the_results_are_not_modified(folder, journal):
    before = (folder / "tracks.jsonl").read_bytes()
    assert names(folder) == {1: "", 2: "", 3: "Anna"}
    assert (folder / "tracks.jsonl").read_bytes() == before


def test_the_journal_contains_actions_and_times(folder, journal):
    header, *records = journal_lines(folder)
    assert (header["format"], header["version"]) == ("queryinst-vis review", 1)
    assert header["results"]["bytes"] == (folder / "tracks.jsonl").stat().st_size
    assert [record["action"] for record in records] == ["split", "name", "merge", "undo"]
    assert [record["n"] for record in records] == [1, 2, 3, 4]
    assert records[0]["at"].endswith("Z")


def test_a_record_is_on_disk_when_apply_returns(folder, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append(os.fstat(file).st_size) or real(file)
    )
    with ReviewSession.open(folder) as session:
        session.apply(Split(1, 4))
        path = folder / "tracks.jsonl.review" / "journal.jsonl"
        assert synced[-1] == path.stat().st_size
        assert len(journal_lines(folder)) == 2


def test_ctrl_c_while_an_action_is_saved_separates_no_action_from_the_journal(folder, monkeypatch):
    fsync = os.fsync

    def interrupted(descriptor):
        fsync(descriptor)
        signal.raise_signal(signal.SIGINT)

    with ReviewSession.open(folder) as session:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", interrupted)
            with pytest.raises(KeyboardInterrupt):
                session.apply(SetName(1, "first"))
        assert session.track(1).name == "first"
        session.apply(SetName(2, "second"))
    with ReviewSession.open(folder) as session:
        assert [session.track(number).name for number in (1, 2)] == ["first", "second"]


def test_repeating_an_action_with_the_same_id_changes_nothing(folder, journal):
    with ReviewSession.open(folder) as session:
        result = session.apply(SetName(3, "Anna"), "record 1")
        assert result.is_repeated
        assert len(session.records) == len(DONE)


def test_a_second_process_is_refused(folder):
    program = (
        "import sys\nfrom queryinst_vis.review import ReviewSession\n"
        "try:\n    ReviewSession.open(sys.argv[1])\nexcept ValueError as error:\n    print(error)\n"
    )
    with ReviewSession.open(folder):
        run = subprocess.run(
            [sys.executable, "-c", program, folder], capture_output=True, text=True, check=True
        )
    assert "another process has this review open" in run.stdout
    ReviewSession.open(folder).close()


def test_a_kill_loses_nothing_and_leaves_no_lock(folder):
    program = textwrap.dedent(
        """
        import os, sys, time
        from queryinst_vis.review import ReviewSession, SetName
        session = ReviewSession.open(sys.argv[1])
        for number in range(5):
            session.apply(SetName(1, f"name {number}"))
            print("done", flush=True)
        time.sleep(60)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, folder], stdout=subprocess.PIPE, text=True
    )
    for _ in range(5):
        assert process.stdout.readline() == "done\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert names(folder)[1] == "name 4"


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_moved_with_a_warning(folder, journal, cut):
    whole = journal.read_bytes()
    torn = whole.splitlines(keepends=True)[-1][:-1][:-cut]
    journal.write_bytes(whole[: -len(whole.splitlines()[-1]) - 1] + torn)
    with pytest.warns(InputWarning, match="incomplete") as caught:
        assert names(folder) == {1: "", 3: "Anna"}  # the undo of the merge was torn
    assert len(caught) == 1
    assert journal.with_name("journal.jsonl.torn").read_bytes() == torn + b"\n"
    assert names(folder) == {1: "", 3: "Anna"}


def test_a_last_line_without_line_feed_is_valid(folder, journal):
    journal.write_bytes(journal.read_bytes()[:-1])
    assert names(folder) == {1: "", 2: "", 3: "Anna"}
    with ReviewSession.open(folder) as session:
        session.apply(SetName(1, "Berta"))
    assert names(folder) == {1: "Berta", 2: "", 3: "Anna"}


@pytest.mark.parametrize("size", [0, 10])
def test_a_kill_while_writing_the_header_is_recovered(folder, journal, size):
    journal.write_bytes(journal.read_bytes()[:size])
    if size:
        with pytest.warns(InputWarning, match="incomplete"):
            assert names(folder) == {1: "", 2: ""}
    assert names(folder) == {1: "", 2: ""}


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (lambda lines: [*lines[:2], *lines[3:]], "line 3"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2"),
        (lambda lines: [*lines, lines[-1]], "line 6"),
        (lambda lines: [line.replace(b'"Anna"', b'"Anni"') for line in lines], "line 3"),
        (lambda lines: [*lines[:2], b"", *lines[2:]], "line 3"),
        (lambda lines: lines[1:], "line 1"),
    ],
    ids=["lost", "moved", "repeated", "changed", "empty", "no header"],
)
def test_a_damaged_journal_is_refused_and_not_modified(folder, journal, damage, where):
    damaged = b"".join(text + b"\n" for text in damage(journal.read_bytes().splitlines()))
    journal.write_bytes(damaged)
    with pytest.raises(InputError, match=f"{where}: .*damaged"):
        ReviewSession.open(folder)
    assert journal.read_bytes() == damaged


def test_a_journal_of_other_results_is_refused(folder, journal):
    write_results(folder, {1: line(range(LENGTH), 3)}, LENGTH)
    with pytest.raises(InputError, match="`results` differs from that of these corrections"):
        ReviewSession.open(folder)


def test_results_are_identified_by_content(folder, journal):
    os.utime(folder / "tracks.jsonl", (1, 1))
    assert names(folder) == {1: "", 2: "", 3: "Anna"}


def test_a_full_disk_leaves_the_journal_unchanged(folder, journal, monkeypatch):
    before = journal.read_bytes()
    with ReviewSession.open(folder) as session:
        expected = shown(session)

        def full(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(InputError, match="No space left"):
                session.apply(Split(1, 2))
        assert journal.read_bytes() == before
        assert shown(session) == expected
        session.apply(SetName(1, "Berta"))
    assert names(folder)[1] == "Berta"


def test_a_damaged_index_is_rebuilt(folder, journal):
    for path in sorted((folder / "tracks.jsonl.review" / "index").iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert names(folder) == {1: "", 2: "", 3: "Anna"}


@pytest.mark.parametrize(
    "action",
    [
        SetName(3, "Anna\tM."),
        Delete(3, frames=((-2, 1),)),
        Split(3, 2.5),
        Draw(1, ((0.0, 0.0, float("nan"), 4.0, 4.0, 4.0),), track=3),
    ],
)
def test_an_action_that_could_not_be_read_again_is_refused(folder, journal, action):
    with ReviewSession.open(folder) as session:
        with pytest.raises(InputError):
            session.apply_all([(SetName(1, "x"), None), (action, None)])
        assert len(session.records) == len(DONE)
        session.apply(SetName(1, "y"))
    assert names(folder)[1] == "y"


def test_numbers_of_numpy_are_recorded_like_others(folder):
    with ReviewSession.open(folder) as session:
        session.apply(Split(1, np.int64(4)))
    with ReviewSession.open(folder) as session:
        assert session.records[-1].action == Split(1, 4)
