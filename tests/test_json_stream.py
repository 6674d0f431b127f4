"""Streaming entries gives what ``json`` gives for the whole file."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queryinst_vis.formats import json_stream
from queryinst_vis.formats.json_stream import JsonFile, Span, decode_json, light_content

KEYS = ("id", "score")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),  # including NaN and infinities, which Python can write
    st.text(),
    st.sampled_from(['}, {"id"', '"', "\\", '}, {\\"id\\"', "\ud800", "ü", "]", "}"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
ENTRIES = st.lists(
    st.dictionaries(st.sampled_from([*KEYS, "masks", "note"]), VALUES) | VALUES, max_size=6
)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")])


def content_or_error(text, decode=True):
    """The repr of ``light_content``, or its error message."""
    file = io.BytesIO(text)
    with pytest.MonkeyPatch.context() as patch:
        if not decode:
            patch.setattr(json_stream, "light_decoder", lambda keys, heavy: refuse)
        try:
            return repr(light_content(file, Path("file"), KEYS, "masks"))
        except (ValueError, RecursionError) as error:
            return str(error)


def refuse(text):
    raise ValueError("fall back to json")


@settings(max_examples=150, deadline=None)
@given(ENTRIES, SEPARATORS, st.booleans(), st.sampled_from([1, 5, 64, 1 << 20]))
def test_entries_equal_those_of_json(entries, separators, ascii_only, block):
    text = json.dumps(entries, separators=separators, ensure_ascii=ascii_only)
    text = text.encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "BLOCK", block)
        found = content_or_error(text)
        assert found == content_or_error(text, decode=False)
    try:
        expected = json.loads(text.decode("utf-8"))
    except ValueError:  # a lone surrogate encoded as UTF-8
        return
    spans = light_content(io.BytesIO(text), Path("file"), KEYS, "masks")
    assert len(spans) == len(expected)
    for entry, light in zip(expected, spans, strict=True):
        if isinstance(light, dict) and isinstance(light.get("masks"), Span):
            span = light.pop("masks")
            assert repr(light) == repr({key: entry[key] for key in KEYS if key in entry})
            light = json.loads(text[span.start : span.end])
        assert repr(light) == repr(entry)


@settings(max_examples=150, deadline=None)
@given(ENTRIES, st.data())
def test_parse_errors_do_not_depend_on_the_fast_decoder(entries, data):
    text = bytearray(json.dumps([{"id": 1, "masks": []}] * 2 + entries), "utf-8")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from(
                [b"", b",", b"}", b"{", b'"', b"\\", b"\n", b"0", b"\xff", b"\x00", b"]"]
            )
        )
    assert content_or_error(bytes(text)) == content_or_error(bytes(text), decode=False)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.binary(max_size=3))
def test_decoded_values_equal_those_of_json(value, more):
    text = json.dumps(value).encode() + more
    try:
        expected = json.loads(text.decode("utf-8"))
    except ValueError as error:
        with pytest.raises(ValueError) as caught:
            decode_json(text)
        assert str(caught.value) == str(error)
    else:
        assert repr(decode_json(text)) == repr(expected)


def test_only_the_first_and_last_entry_use_the_slow_parser(monkeypatch):
    entries = [{"id": number, "masks": [{"counts": "ab"}] * 9} for number in range(100)]
    slow = []
    value = JsonFile.value

    def counted(self):
        slow.append(self)
        return value(self)

    monkeypatch.setattr(JsonFile, "value", counted)
    assert len(light_content(io.BytesIO(json.dumps(entries).encode()), None, KEYS, "masks")) == 100
    assert len(slow) == 2, "the first teaches the separator, and none follows the last"
