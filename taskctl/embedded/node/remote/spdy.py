"""SPDY/3.1 frames, as far as ``kubectl port-forward`` needs them; no I/O.

kubectl carries SPDY through a WebSocket for port-forward, also in its newest versions (client-go
``tools/portforward/tunneling_dialer.go``). Source: the SPDY protocol, draft 3.1; like Kubernetes'
own implementation (github.com/moby/spdystream) this one has no flow control of streams. The client
opens streams, and this side answers them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_VERSION: Final = 3
_FIN: Final = 0x01
_CONTROL: Final = 0x80000000
_STREAM_ID: Final = 0x7FFFFFFF
MAX_FRAME_BYTES: Final = 1024 * 1024
_MAX_HEADER_BYTES: Final = 64 * 1024
_CANCEL: Final = 5

# Section 2.6.10.1: names and values, each with its length before it, then common text.
_WORDS: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language "
    "accept-ranges age allow authorization cache-control connection content-base content-encoding "
    "content-language content-length content-location content-md5 content-range content-type date "
    "etag expect expires from host if-match if-modified-since if-none-match if-range "
    "if-unmodified-since last-modified location max-forwards pragma proxy-authenticate "
    "proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status|200 OK|version HTTP/1.1 url "
    "public set-cookie keep-alive origin"
)
_TAIL: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 "
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
    "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _words() -> Iterator[bytes]:
    for part in _WORDS.split("|"):
        found = [part] if part == "200 OK" else part.split()
        for word in found:
            yield struct.pack(">I", len(word)) + word.encode()


DICTIONARY: Final = b"".join(_words()) + _TAIL.encode()


class ControlKind(IntEnum):
    """Types of control frames."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class SpdyError(Exception):
    """The client does not speak SPDY as it should; the connection is of no more use."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The client has opened a stream; ``ended``: it will send nothing on it."""

    stream: int
    headers: Mapping[str, str]
    ended: bool


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream; ``ended``: they are the last."""

    stream: int
    data: bytes
    ended: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The client wants no more of a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Ping:
    """To be sent back as it is."""

    frame: bytes


Event = Opened | Data | Reset | Ping


class SpdySession:
    """One connection: turns bytes into events, and answers into bytes."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take bytes from the client, and yield what they say.

        Raises:
            SpdyError: they are not SPDY, or a frame is too large.
        """
        self._rest += data
        while len(self._rest) >= 8:
            first, second = struct.unpack_from(">II", self._rest)
            flags, length = second >> 24, second & 0xFFFFFF
            if length > MAX_FRAME_BYTES:
                raise SpdyError(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES} are taken")
            if len(self._rest) < 8 + length:
                return
            whole = bytes(self._rest[: 8 + length])
            del self._rest[: 8 + length]
            if not first & _CONTROL:
                yield Data(first & _STREAM_ID, whole[8:], bool(flags & _FIN))
                continue
            if first >> 16 & 0x7FFF != _VERSION:
                raise SpdyError(f"version {first >> 16 & 0x7FFF} of SPDY; 3 is wanted")
            event = self._control(first & 0xFFFF, flags, whole)
            if event is not None:
                yield event

    def _control(self, kind: int, flags: int, whole: bytes) -> Event | None:
        body = whole[8:]
        try:
            if kind == ControlKind.SYN_STREAM:
                stream = struct.unpack_from(">I", body)[0] & _STREAM_ID
                return Opened(stream, self._headers(body[10:]), bool(flags & _FIN))
            if kind == ControlKind.HEADERS:
                self._headers(body[4:])  # unused, but the decompressor has to see them all
            elif kind == ControlKind.RST_STREAM:
                return Reset(struct.unpack_from(">I", body)[0] & _STREAM_ID)
            elif kind == ControlKind.PING:
                return Ping(whole)
        except struct.error as error:
            raise SpdyError("a control frame is too short") from error
        return None

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            text = self._inflate.decompress(block, _MAX_HEADER_BYTES)
        except zlib.error as error:
            raise SpdyError(f"headers cannot be decompressed: {error}") from error
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"headers of more than {_MAX_HEADER_BYTES} bytes")
        found: dict[str, str] = {}
        count, at = struct.unpack_from(">I", text)[0], 4
        for _ in range(count):
            pair = []
            for _ in range(2):
                size = struct.unpack_from(">I", text, at)[0]
                if at + 4 + size > len(text):
                    raise SpdyError("a header is longer than its block")
                pair.append(text[at + 4 : at + 4 + size].decode("latin-1"))
                at += 4 + size
            found[pair[0].lower()] = pair[1]
        return found

    def reply(self, stream: int) -> bytes:
        """Return the frame that accepts a stream."""
        block = self._deflate.compress(struct.pack(">I", 0))
        block += self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _control_frame(ControlKind.SYN_REPLY, struct.pack(">I", stream) + block)


def _control_frame(kind: ControlKind, body: bytes) -> bytes:
    return struct.pack(">HHI", 0x8000 | _VERSION, kind, len(body)) + body


def data_frame(stream: int, data: bytes, *, ended: bool = False) -> bytes:
    """Return a frame with bytes of a stream."""
    return struct.pack(">II", stream, (_FIN if ended else 0) << 24 | len(data)) + data


def reset_frame(stream: int) -> bytes:
    """Return the frame that ends a stream at once."""
    return _control_frame(ControlKind.RST_STREAM, struct.pack(">II", stream, _CANCEL))
