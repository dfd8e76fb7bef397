"""SPDY frames, fed by a client that is written from the specification."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskctl.embedded.node.remote.spdy import (
    DICTIONARY,
    MAX_FRAME_BYTES,
    ControlKind,
    Data,
    Event,
    Opened,
    Ping,
    Reset,
    SpdyError,
    SpdySession,
    data_frame,
    reset_frame,
)

HEADERS = {"streamtype": "data", "port": "80", "requestid": "0"}


class Client:
    """What kubectl sends: header blocks share one compressor."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def open(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        text = struct.pack(">I", len(headers))
        for pair in headers.items():
            for word in pair:
                text += struct.pack(">I", len(word)) + word.encode()
        block = self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return control(
            ControlKind.SYN_STREAM, struct.pack(">IIBB", stream, 0, 0, 0) + block, int(fin)
        )


def control(kind: int, body: bytes, flags: int = 0, version: int = 3) -> bytes:
    return struct.pack(">HHI", 0x8000 | version, kind, flags << 24 | len(body)) + body


def events(data: bytes) -> list[Event]:
    return list(SpdySession().feed(data))


def conversation() -> Iterator[tuple[bytes, Event | None]]:
    client = Client()
    error = {"streamtype": "error", "port": "80", "requestid": "0"}
    yield client.open(1, error, fin=True), Opened(1, error, True)
    yield client.open(3, HEADERS), Opened(3, HEADERS, False)
    ping = control(ControlKind.PING, struct.pack(">I", 1))
    yield ping, Ping(ping)
    yield data_frame(3, b"hello"), Data(3, b"hello", False)
    yield control(ControlKind.SETTINGS, struct.pack(">I", 0)), None
    yield control(ControlKind.WINDOW_UPDATE, struct.pack(">II", 3, 10)), None
    yield data_frame(3, b"", ended=True), Data(3, b"", True)
    yield reset_frame(3), Reset(3)
    yield control(ControlKind.GOAWAY, struct.pack(">II", 3, 0)), None


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_a_conversation_cut_anywhere_is_understood(cuts: list[int]) -> None:
    steps = list(conversation())
    text = b"".join(frame for frame, _ in steps)
    session, at = SpdySession(), 0
    found: list[Event] = []
    for cut in [*cuts, len(text)]:
        found.extend(session.feed(text[at : at + cut]))
        at += cut
    assert found == [event for _, event in steps if event is not None]


def test_the_answer_to_a_stream_has_an_empty_header_block() -> None:
    session, inflate = SpdySession(), zlib.decompressobj(zdict=DICTIONARY)
    for stream in (1, 3):
        frame = session.reply(stream)
        head, length = struct.unpack_from(">II", frame)
        assert (head, length) == (0x80030002, len(frame) - 8)
        assert struct.unpack_from(">I", frame, 8) == (stream,)
        assert inflate.decompress(frame[12:]) == struct.pack(">I", 0)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n", "bytes; at most"),
        (control(ControlKind.PING, b"\0\0\0\1", version=2), "version 2"),
        (struct.pack(">II", 1, MAX_FRAME_BYTES + 1), "bytes; at most"),
        (control(ControlKind.SYN_STREAM, b"\0\0"), "too short"),
        (control(ControlKind.SYN_STREAM, b"\0" * 10 + b"no zlib"), "decompressed"),
        (control(ControlKind.RST_STREAM, b""), "too short"),
    ],
)
def test_what_is_no_spdy_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(SpdyError, match=why):
        events(data)


def test_headers_that_blow_up_are_refused() -> None:
    with pytest.raises(SpdyError, match="more than"):
        events(Client().open(1, {"port": "8" * 1_000_000}))


@given(st.binary(max_size=300))
def test_noise_is_refused_or_waited_for(data: bytes) -> None:
    with contextlib.suppress(SpdyError):
        events(data)
