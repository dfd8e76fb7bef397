from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.embedded.server.http import bodies
from taskctl.embedded.server.protobuf import decode as protobuf
from taskctl.embedded.server.refusals.errors import StatusError


def test_json_and_yaml() -> None:
    assert bodies.parse_object(b'{"a": 1}', "application/json", "T") == {"a": 1}
    assert bodies.parse_object(b'{"a": 1}', "", "T") == {"a": 1}
    assert bodies.parse_object(b"a: 1\nb: [x]\n", "application/yaml", "T") == {"a": 1, "b": ["x"]}


def test_yaml_dates_stay_text() -> None:
    found = bodies.parse_yaml(b"when: 2024-01-01\nat: 2024-01-01T00:00:00Z\n")
    assert found == {"when": "2024-01-01", "at": "2024-01-01T00:00:00Z"}


def test_short_yaml_booleans() -> None:
    found = bodies.parse_yaml(b"a: y\nb: N\nc: 'y'\nd: yes\ne: why\n")
    assert found == {"a": True, "b": False, "c": "y", "d": True, "e": "why"}


@pytest.mark.parametrize(
    ("body", "media", "code"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"NaN", "application/json", 400),
        (b"a: [", "application/yaml", 400),
        (b"1: 2", "application/yaml", 400),
        (b"a: &x [*x]", "application/yaml", 400),
        (b"!!python/object:os.system {}", "application/yaml", 400),
        (b"x", "application/x-tar", 415),
        (b"x", protobuf.MEDIA_TYPE, 400),
    ],
)
def test_bodies_that_cannot_be_read(body: bytes, media: str, code: int) -> None:
    with pytest.raises(StatusError) as caught:
        bodies.parse_object(body, media, "Thing")
    assert caught.value.code == code


def test_fields_given_twice() -> None:
    text = b'{"a": 1, "b": {"c": 1, "c": 2}, "l": [{"x": 1}, {"x": 1, "x": 2}], "a": 2}'
    assert bodies.duplicate_fields(text) == [
        'duplicate field "a"',
        'duplicate field "b.c"',
        'duplicate field "l[1].x"',
    ]
    assert bodies.duplicate_fields(b'{"a": 1}') == []
    assert bodies.duplicate_fields(b'{"a": "\\": ", "b": ": \\"x\\" :"}') == []


@given(
    st.recursive(
        st.none() | st.integers() | st.text(alphabet='a": \\,{}'),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='ab": \\'), inner),
    ),
    st.sampled_from([(",", ":"), (" , ", " : ")]),
)
def test_no_name_is_taken_for_given_twice(value: object, separators: tuple[str, str]) -> None:
    text = json.dumps({"x": value}, separators=separators)
    assert bodies.duplicate_fields(text.encode()) == []
    twice = text[:-1] + ', "x": 1}'
    assert bodies.duplicate_fields(twice.encode()) == ['duplicate field "x"']


def varint(number: int) -> bytes:
    out = b""
    while True:
        number, byte = number >> 7, number & 0x7F
        out += bytes([byte | (0x80 if number else 0)])
        if not number:
            return out


def part(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    types = part(1, api_version.encode()) + part(2, kind.encode())
    return b"k8s\x00" + part(1, types) + part(2, raw)


def test_protobuf_of_a_config_map() -> None:
    meta = part(1, b"m") + part(2, b"") + part(3, b"default") + part(8, b"")
    meta += part(11, part(1, b"k") + part(2, b"v")) + part(14, b"x/y")
    raw = part(1, meta) + part(2, part(1, b"a") + part(2, b"1"))
    raw += part(3, part(1, b"bin") + part(2, b"\x00\xff")) + part(4, 1)
    assert bodies.parse_object(envelope("v1", "ConfigMap", raw), protobuf.MEDIA_TYPE, "X") == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "m",
            "namespace": "default",
            "labels": {"k": "v"},
            "finalizers": ["x/y"],
        },
        "data": {"a": "1"},
        "binaryData": {"bin": "AP8="},
        "immutable": True,
    }


def test_protobuf_keeps_a_grace_period_of_zero() -> None:
    raw = part(1, 0) + part(2, part(1, b"uid")) + part(4, b"Background")
    assert protobuf.decode(envelope("v1", "DeleteOptions", raw)) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "uid"},
        "propagationPolicy": "Background",
    }


def test_protobuf_numbers_and_times() -> None:
    meta = part(7, (1 << 64) - 5) + part(8, part(1, 1_767_225_600))
    found = protobuf.decode(envelope("v1", "Namespace", part(1, meta)))
    assert found["metadata"] == {"generation": -5, "creationTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"k8s\x00",
        b"k8s\x00\x0a\xff",
        envelope("v1", "Service", b""),
        envelope("v2", "Pod", b""),
        envelope("v1", "ConfigMap", part(1, 5)),
        envelope("v1", "ConfigMap", b"\x0b"),
        envelope("v1", "ConfigMap", b"\xff" * 11),
        envelope("v1", "ConfigMap", part(2, part(1, b"\xff"))),
        envelope("", "", part(1, b"")),
        envelope("ObjectMeta", "", b""),
    ],
)
def test_protobuf_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(protobuf.UnreadableError):
        protobuf.decode(body)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"a: &a [*a]", "contains itself"),
        (b"a: " + b"[" * 100_000, "max depth of 128"),
        (b"- " * 50_000, "max depth of 128"),
        (b"a: " + b"9" * 100_000, "too many digits"),
        (b"a: 1" + b":59" * 10_000, "too many digits"),
        (b"a: .inf", "not a JSON number"),
        (b"[" + b"1," * 300_000 + b"]", "more than 250000 values"),
        (b"a: &a " + b"x" * 10_000 + b"\nb: [" + b"*a," * 1000 + b"]", "excessive aliasing"),
        (
            b"x0: &x0 {a: 1, b: 2}\n"
            + b"".join(b"x%d: &x%d {<<: [%s]}\n" % (n, n, b",".join([b"*x%d" % (n - 1)] * 9))
                       for n in range(1, 12)),
            "excessive aliasing",
        ),
        (
            b"x0: &x0 [1, 2]\n"
            + b"".join(b"x%d: &x%d [%s]\n" % (n, n, b",".join([b"*x%d" % (n - 1)] * 9))
                       for n in range(1, 12)),
            "excessive aliasing",
        ),
    ],
)  # fmt: skip
def test_yaml_is_bounded(text: bytes, why: str) -> None:
    with pytest.raises(StatusError, match=why) as caught:
        bodies.parse_yaml(text)
    assert caught.value.code == 400


def test_aliases_and_merge_keys_work() -> None:
    found = bodies.parse_yaml(b"a: &a {x: 1, z: 2}\nb: {<<: *a, z: 3}\nc: [*a, *a]\nd: 0x1F\n")
    both = {"x": 1, "z": 2}
    assert found == {"a": both, "b": {"x": 1, "z": 3}, "c": [both, both], "d": 31}


@pytest.mark.parametrize("depth", [129, 300, 5000])
def test_depth_is_bounded(depth: int) -> None:
    for text in (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
        for parse in (lambda body: bodies.parse_json(body, "no"), bodies.parse_yaml):
            with pytest.raises(StatusError) as caught:
                parse(text)
            assert caught.value.code == 400
    assert bodies.parse_json(b"[" * 128 + b"]" * 128, "no")
