"""How protobuf writes fields: numbers in groups of seven bits, texts with their length. Pure.

Source: the Protocol Buffers encoding guide, https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from typing import Final

_LENGTH_DELIMITED: Final = 2


def varint(value: int) -> bytes:
    """Return a number, of a negative one its two's complement in 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field_bytes(number: int, data: bytes) -> bytes:
    """Return a field that holds bytes, text or another message."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(len(data)) + data


def field_int(number: int, value: int) -> bytes:
    """Return a field that holds an integer or a boolean."""
    return varint(number << 3) + varint(int(value))
