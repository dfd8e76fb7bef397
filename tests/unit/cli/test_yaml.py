"""YAML in and out, beside what kubectl makes of the same text.

kubectl_yaml.json was written by kubectl 1.32 (``create --dry-run=client -o json``).
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from taskctl.cli.terminal import is_unsafe
from taskctl.cli.yamlread import MAX_DEPTH, ManifestError, read_documents
from taskctl.cli.yamlwrite import write_yaml

_FOUND = json.loads(Path(__file__).with_name("kubectl_yaml.json").read_text())
_AWKWARD = [
    "y", "n", "Y", "N", "yes", "no", "on", "off", "true", "True", "null", "~", "=", "<<", "1e3",
    "12e5", ".5", "-.5e3", "017", "08", "0o17", "0b11", "0x1F", "1_000", "12:30:00", "1:30",
    "2001-01-01", "---", "...", ".nan", ".inf", "NaN", "1.", "-", "?", ":", "|", ">", "{a", "[a",
    "&a", "*a", "!a", "%a", "@a", "`a", "", " ", " a", "a ", "a\n", "\na", "a\n\n", "a\n b\n",
    "  a\nb", "a\n---\nb", "a\tb", "\r", "a: b", "a #b", "# a", "- a", "x" * 130, "x " * 90,
    "\x1b[2J", "\u202eb", "\x85", "\u2028", "\ufeffx", "\x00", "日本😀",
]  # fmt: skip
_TEXT = st.sampled_from(_AWKWARD) | st.text(
    st.sampled_from("\n\t :#-?[]{},&*!|>%@`\"'\\=yn019._eExo~\x85\u2028\x1b\u202e\r")
    | st.characters(exclude_categories=["Cs"]),
    max_size=12,
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(_TEXT, below, max_size=4),
    max_leaves=8,
)


def read(text: str) -> Any:
    [document] = read_documents(text, lambda _: None)
    return document


def same(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same; 1 and 1.0 are, for Kubernetes."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return float(left) == float(right)
    if isinstance(left, dict):
        keys = isinstance(right, dict) and left.keys() == right.keys()
        return keys and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        fits = isinstance(right, list) and len(left) == len(right)
        return fits and all(map(same, left, right))
    return type(left) is type(right) and bool(left == right)


@pytest.mark.parametrize(("text", "value"), _FOUND["read"])
def test_reads_as_kubectl_does(text: str, value: Any) -> None:
    found = read(f"value: {text}\n")["value"]
    assert same(found, value), found


@pytest.mark.parametrize("text", _FOUND["refused"])
def test_refuses_what_kubectl_refuses(text: str) -> None:
    with pytest.raises(ManifestError):
        read(f"value: {text}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, c: 2}\n", "line 2: b.c: is given twice"),
        ("{y: 1}\n", "must be JSON"),
        ("a: {1: x, '1': y}\n", "a.1: is given twice"),
        ("a: [1, .nan]\n", "line 1: a[1]: JSON has no number .nan"),
        ("a: !!binary /w==\n", "base64"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": [1e999]}', "1e999"),
        ('{"a": ["\\ud800"]}', "a[0]"),
        ('{"a": 1,}', "must be JSON"),
        ("a: " + "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "nested deeper"),
        ('{"a": ' + "[" * 100_000, "nested deeper"),
    ],
)  # fmt: skip
def test_what_kubectl_drops_silently_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read(text)
    assert message in str(caught.value)


def test_aliases_cannot_multiply_without_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(ManifestError, match="aliases add more than"):
        read("\n".join(lines))


def test_values_behind_an_alias_are_not_shared() -> None:
    found = read("a: &x {b: 1}\nc: *x\n")
    found["a"]["b"] = 2
    assert found["c"] == {"b": 1}


def test_documents() -> None:
    text = "\ufeffa: 1\r\n--- # two\r\nb: 2\r\n...\r\n---\r\n---\r\nc: 3\r\n"
    assert read_documents(text, lambda _: None) == [{"a": 1}, {"b": 2}, {"c": 3}]
    text = '{"a": 1.0}\n{"b": 1e3}---\n{"c": 18446744073709551615}'
    notes: list[str] = []
    documents = read_documents(text, notes.append)
    assert [repr(doc) for doc in documents] == ["{'a': 1}", "{'b': 1000}", f"{{'c': {2.0**64!r}}}"]
    assert "c: 18446744073709551615 has more than 64 bits" in notes[0]


@given(_VALUES)
def test_what_is_written_is_read_as_the_same(value: Any) -> None:
    text = write_yaml({"value": value}) + "\n"
    assert not is_unsafe(text.replace("\n", ""))
    assert same(read(text), {"value": value}), text
    assert same(yaml.safe_load(text), {"value": value}), text


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_float_keys_keep_their_value(value: float) -> None:
    (key,) = read(f"value: {{{value!r}: x}}")["value"]
    assert struct.pack("f", float(key)) == struct.pack("f", value)
