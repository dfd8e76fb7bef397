from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.cli.output import table
from taskctl.cli.terminal import LogFilter, escape_in_json, is_unsafe, one_line, with_looks
from taskctl.safetext import visible

_CHARS = st.sampled_from("a\n\t\r\x00\x07\x08\x1b[]0;31mHJ\x7f\x9b\u061c\u200f\u202e\u2066é日😀")
_TEXT = st.text(_CHARS | st.characters())


@given(_TEXT)
def test_one_line_is_one_safe_line(text: str) -> None:
    line = one_line(text)
    assert not is_unsafe(line)
    assert one_line(line) == line


@given(_TEXT)
def test_only_looks_pass(text: str) -> None:
    import re

    assert not is_unsafe(visible(text).replace("\n", "").replace("\t", ""))
    rest = re.sub(r"\x1b\[[0-9;:]*m", "", with_looks(text))
    assert not is_unsafe(rest.replace("\n", "").replace("\t", ""))


@given(_TEXT)
def test_json_stays_the_same_value(text: str) -> None:
    if any("\ud800" <= char <= "\udfff" for char in text):
        return
    escaped = escape_in_json(json.dumps({text: text}, ensure_ascii=False))
    assert not is_unsafe(escaped)
    assert json.loads(escaped) == {text: text}


@given(st.binary(max_size=60) | _TEXT.map(lambda t: t.encode("utf-8", "replace")), st.data())
def test_a_log_is_filtered_the_same_however_it_is_cut(log: bytes, data: st.DataObject) -> None:
    whole = LogFilter()
    want = whole.feed(log) + whole.end()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=6)))
    pieces = LogFilter()
    got = b"".join(
        pieces.feed(log[start:end])
        for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True)
    )
    assert got + pieces.end() == want


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        (b"plain\n", b"plain\n"),
        (b"\x1b[1;31mred\x1b[0m\n", b"\x1b[1;31mred\x1b[0m\n\x1b[0m"),
        (b"\x1b]0;owned\x07", b"\\x1b]0;owned\\x07"),
        (b"\x1b[2J\x1b[H\x1bc", b"\\x1b[2J\\x1b[H\\x1bc"),
        (b"\xc2\x9b2J", b"\\x9b2J"),
        (b"\x9b2J \xff", b"\\x9b2J \\xff"),
        (b"10%\r20%\r\n", b"10%\r20%\r\n"),
        (b"\x1b", b"\\x1b"),
        ("\u202egpj.exe".encode(), b"\\u202egpj.exe"),
    ],
)
def test_what_a_terminal_gets_of_a_log(log: bytes, shown: bytes) -> None:
    one_by_one = LogFilter()
    got = b"".join(one_by_one.feed(log[n : n + 1]) for n in range(len(log)))
    assert got + one_by_one.end() == shown


def test_cells_are_one_safe_line_and_columns_stand_straight() -> None:
    text = table(["a", "b"], [["日本", "x\ny"], ["\x1b[2J", "[red]z"], ["plain", "-"]])
    assert text.splitlines() == [
        "A         B",
        "日本      x y",
        "\\x1b[2J   [red]z",
        "plain     -",
    ]
