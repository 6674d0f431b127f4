"""Corrupted and forged journals are refused in one line or replayed correctly."""

from __future__ import annotations

import hashlib
import json
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queryinst_vis.errors import InputError
from queryinst_vis.review import (
    Check,
    Delete,
    Draw,
    Fill,
    Merge,
    Redo,
    ReviewSession,
    SetClass,
    SetName,
    Split,
    Swap,
    Undo,
)
from tests.review_support import line, write_results

LENGTH = 12
SQUARE = ((2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0),)
DONE = (
    Split(2, 7),
    Merge(1, 3, "keep first", ((4, 4, "drop both"),)),
    SetName(1, "Anna"),
    Swap(1, 2, 5),
    Undo(),
    Redo(),
    Draw(9, SQUARE, track=2),
    Check(frames=((0, 3),)),
    SetClass(2, "cat", is_new=True),
    Delete(4, ((8, 8),)),
    Fill(4, ((8, 8),)),
    Undo(),
)
CASES = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    tracks = {1: line(range(6), 2), 2: line(range(LENGTH), 12), 3: line(range(4, LENGTH), 2)}
    return write_results(folder, tracks, LENGTH)


@pytest.fixture(scope="module")
def journal(folder):
    """The path of the journal, its content, and the state after each record."""
    with ReviewSession.open(folder) as session:
        states = [session.state]
        for number, action in enumerate(DONE):
            session.apply(action, f"record {number}")
            states.append(session.state)
    path = folder / "tracks.jsonl.review" / "journal.jsonl"
    return path, path.read_bytes(), states


@st.composite
def mutations(draw):
    """A function that mutates the bytes of a journal."""
    kind = draw(
        st.sampled_from(["flip", "cut", "insert", "truncate", "drop", "repeat", "exchange"])
    )
    position, size = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(1, 60))
    junk = draw(st.binary(min_size=1, max_size=20) | st.sampled_from([b"\n", b"}\n{", b"\x00" * 9]))

    def mutate(data: bytes) -> bytes:
        offset = int(position * len(data))
        lines = data.splitlines(keepends=True)
        number = int(position * len(lines))
        if kind == "flip":
            return data[:offset] + bytes([data[offset] ^ (1 << size % 8)]) + data[offset + 1 :]
        if kind == "cut":
            return data[:offset] + data[offset + size :]
        if kind == "insert":
            return data[:offset] + junk + data[offset:]
        if kind == "truncate":
            return data[:offset]
        if kind == "drop":
            return b"".join(lines[:number] + lines[number + 1 :])
        if kind == "repeat":
            return b"".join(lines[: number + 1] + lines[number:])
        other = size % len(lines)
        lines[number], lines[other] = lines[other], lines[number]
        return b"".join(lines)

    return mutate


def check(folder, journal, mutate):
    """Open a mutated journal: it is refused, or replayed up to a torn last line."""
    path, whole, states = journal
    torn = path.with_name("journal.jsonl.torn")
    torn.unlink(missing_ok=True)
    changed = mutate(whole)
    path.write_bytes(changed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with ReviewSession.open(folder) as session:
                state, count = session.state, len(session.records)
        except InputError as error:
            assert "\n" not in str(error)
            assert path.read_bytes() == changed
            return
    assert state == states[count]
    moved = torn.read_bytes() if torn.exists() else b""
    assert bool(moved) == bool(caught) and len(caught) <= 1
    if changed:
        kept = path.read_bytes() + moved
        assert changed.rstrip(b"\n") in kept or not changed.count(b"\n")
    assert count == max(0, path.read_bytes().count(b"\n") - 1)


@given(mutate=mutations())
@settings(CASES, max_examples=40)
def test_a_corrupted_journal_is_refused_or_replayed(folder, journal, mutate):
    check(folder, journal, mutate)


@pytest.mark.slow
@given(mutate=mutations())
@settings(CASES, max_examples=1000)
def test_a_thousand_corrupted_journals_are_refused_or_replayed(folder, journal, mutate):
    check(folder, journal, mutate)


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.lists(st.integers(-1, 20) | st.lists(st.integers(-1, 20), max_size=3), max_size=3)
)


def sealed(contents):
    """A journal with valid checksums, as an attacker could write."""
    before, lines = b"", []
    for content in contents:
        body = json.dumps(content).encode()[:-1]
        before = hashlib.sha256(before + body).hexdigest()[:16].encode()
        lines.append(body + b', "sum": "' + before + b'"}\n')
    return b"".join(lines)


def check_forged(folder, journal, number, key, value):
    path, whole, _ = journal
    contents = [json.loads(text) for text in whole.splitlines()]
    for content in contents:
        del content["sum"]
    chosen = contents[number % len(contents)]
    names = [*chosen, "new"]
    chosen[names[key % len(names)]] = value
    path.write_bytes(sealed(contents))
    try:
        with ReviewSession.open(folder) as session:
            assert len(session.records) == len(DONE)
            for frame in range(len(session)):
                session.frame(frame)
            session.tracks()
    except InputError as error:
        assert "\n" not in str(error)


@given(number=st.integers(0, 20), key=st.integers(0, 9), value=VALUES)
@settings(CASES, max_examples=40)
def test_a_forged_record_is_refused_or_replayed(folder, journal, number, key, value):
    check_forged(folder, journal, number, key, value)


@pytest.mark.slow
@given(number=st.integers(0, 20), key=st.integers(0, 9), value=VALUES)
@settings(CASES, max_examples=1000)
def test_a_thousand_forged_records_are_refused_or_replayed(folder, journal, number, key, value):
    check_forged(folder, journal, number, key, value)
