"""Frames of the agent's socket."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl import wire
from taskctl.errors import WireError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text()
    | st.binary()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
MESSAGES = st.dictionaries(st.text(), VALUES, max_size=5)


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.slow
@given(st.lists(MESSAGES, max_size=5), st.data())
def test_any_stream_in_any_pieces(messages: list[wire.Message], data: st.DataObject) -> None:
    stream = b"".join(wire.encode(message) for message in messages)
    decoder = wire.Decoder()
    received: list[wire.Message] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        received += decoder.feed(stream[:size])
        stream = stream[size:]
    assert received == messages
    assert list(decoder.feed(wire.encode({"last": True}))) == [{"last": True}]  # nothing was left


def test_length_is_big_endian() -> None:
    assert wire.encode({"id": 1}) == b"\x00\x00\x00\x05\x81\xa2id\x01"


def test_a_part_of_a_frame_waits_for_the_rest() -> None:
    decoder = wire.Decoder()
    assert list(decoder.feed(b"\x00\x00\x00\x05\x81")) == []
    assert list(decoder.feed(b"\xa2id\x01\x00")) == [{"id": 1}]
    assert list(decoder.feed(b"\x00\x00\x05\x81\xa2id\x02")) == [{"id": 2}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not one msgpack value"),
        (b"\x90", "not a map"),
        (b"\xc0", "not a map"),
        (b"\x80\x00", "not one msgpack value"),
        (b"\x81\xa1a", "not one msgpack value"),
        (b"\x81\x01\x02", "not one msgpack value"),
        (b"\x81\xc4\x01a\x02", "not a map with text keys"),
        (b"\x81\xa1\xff\x02", "not one msgpack value"),
        (b"\x81\xa1a\xc1", "not one msgpack value"),
        (b"\x81\xa1a" + b"\x91" * 5000 + b"\xc0", "not one msgpack value"),
    ],
)
def test_malformed_body(body: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        wire.decode_body(body)
    with pytest.raises(WireError, match=message):
        list(wire.Decoder().feed(frame(body)))


def test_messages_before_a_malformed_one_arrive() -> None:
    messages = wire.Decoder().feed(wire.encode({"id": 1}) + frame(b"\x90"))
    assert next(messages) == {"id": 1}
    with pytest.raises(WireError):
        next(messages)


def test_length_over_the_limit_is_refused_at_once() -> None:
    with pytest.raises(WireError, match="16777217 bytes; at most 16777216"):
        list(wire.Decoder().feed(struct.pack(">I", wire.MAX_FRAME_BYTES + 1)))
    with pytest.raises(WireError, match="at most 10"):
        list(wire.Decoder(max_frame_bytes=10).feed(struct.pack(">I", 11)))


def test_largest_frame() -> None:
    room = wire.MAX_FRAME_BYTES - len(msgpack.packb({"a": b""})) - 3
    data = wire.encode({"a": b"x" * room})
    assert len(data) == 4 + wire.MAX_FRAME_BYTES
    [message] = wire.Decoder().feed(data)
    assert len(message["a"]) == room
    with pytest.raises(WireError, match="at most 16777216 fit a frame"):
        wire.encode({"a": b"x" * (room + 1)})


@pytest.mark.parametrize("value", [object(), 2**64, -(2**63) - 1, "\ud800", {1, 2}])
def test_what_cannot_be_sent(value: Any) -> None:
    with pytest.raises(WireError, match="cannot be sent"):
        wire.encode({"a": value})


@given(VALUES)
def test_values(value: Any) -> None:
    assert wire.unpack_value(wire.pack_value(value)) == value


@pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x01\x02", b"\xa5a", b"\xa1\xff"])
def test_malformed_value(packed: bytes) -> None:
    with pytest.raises(WireError):
        wire.unpack_value(packed)
