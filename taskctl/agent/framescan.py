"""What decoding a frame would cost, found out without decoding it; pure.

A frame of 16 MiB can hold sixteen million empty maps, which take a gigabyte and seconds to
build. So the heads of all values are walked first, in one pass, counting items, levels and the
memory that CPython takes for them; a frame over a limit is refused before anything is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taskctl.errors import WireError

# What an object of CPython takes beside its content; sys.getsizeof, rounded up.
_MAP_BYTES: Final = 64
_PAIR_BYTES: Final = 104  # a dict's table is at most two thirds full, and grows twofold
_FEWEST_PAIRS: Final = 3  # a dict with a single pair may have a table with room for ten
_ARRAY_BYTES: Final = 56
_SLOT_BYTES: Final = 8
_TEXT_BYTES: Final = 80
_RAW_BYTES: Final = 40
_EXT_BYTES: Final = 120
_NUMBER_BYTES: Final = 36  # an integer from 2**60 on
_SHORT_TEXT: Final = 64

# Per first byte: how many bytes of length follow, for types that have some.
_LENGTH_BYTES: Final = {
    0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4,
    0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4,
}  # fmt: skip
# Per first byte: bytes behind it, of types with a fixed size.
_FIXED_BYTES: Final = {
    0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
_CONTINUATION: Final = bytes(range(0x80, 0xC0))
_BELOW_TWO_BYTES: Final = bytes(range(0xC4))  # begins no character over U+00FF
_BELOW_FOUR_BYTES: Final = bytes(range(0xF0))  # begins no character over U+FFFF


@dataclass(frozen=True, slots=True)
class Cost:
    """What a body would become.

    Attributes:
        items: values in it, keys included.
        memory_bytes: of all objects made from it, about.
    """

    items: int
    memory_bytes: int


class TooMuchError(Exception):
    """Decoding would cost more than is allowed; the message says what."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one frame may cost.

    Attributes:
        items: values, keys included.
        depth: levels of maps and arrays.
        memory_bytes: of all objects made from it.
    """

    items: int
    depth: int
    memory_bytes: int


def scan(body: bytes, limits: Limits) -> Cost:
    """Walk a body of msgpack and return what it would cost.

    Takes a third of a microsecond for each item, and stops at the first limit.

    Raises:
        TooMuchError: it is over a limit.
        WireError: it is cut short, or no msgpack.
    """
    size = len(body)
    at = items = memory = 0
    left = 1  # values still to come on this level
    above: list[int] = []  # the same, of the levels around it
    while True:
        while left == 0:
            if not above:
                if at != size:
                    raise WireError("the body is not one msgpack value: bytes are left over")
                return Cost(items, memory)
            left = above.pop()
        if at >= size:
            raise WireError("the body is not one msgpack value: it is cut short")
        left -= 1
        items += 1
        tag = body[at]
        at += 1
        inside, at, more = _value(body, tag, at)
        memory += more
        if at > size:
            raise WireError("the body is not one msgpack value: it is cut short")
        if inside:
            above.append(left)
            left = inside
        # Each value takes a byte at least, so a false count is found out here, not in memory.
        if items + left > limits.items:
            raise TooMuchError(f"it holds more than {limits.items} values")
        if memory > limits.memory_bytes:
            raise TooMuchError(f"it takes more than {limits.memory_bytes >> 20} MiB of memory")
        if len(above) > limits.depth:
            raise TooMuchError(f"it is nested more than {limits.depth} levels deep")


def _value(body: bytes, tag: int, at: int) -> tuple[int, int, int]:
    """Return the values inside one value, where it ends, and the memory it takes."""
    if tag < 0x80 or tag >= 0xE0:
        return 0, at, 0  # a small integer, which CPython keeps anyway
    if tag < 0x90:
        return 2 * (tag & 15), at, _map_bytes(tag & 15)
    if tag < 0xA0:
        return tag & 15, at, _ARRAY_BYTES + _SLOT_BYTES * (tag & 15)
    if tag < 0xC0:
        return 0, at + (tag & 31), _TEXT_BYTES + 4 * (tag & 31)
    if tag in _FIXED_BYTES:
        return 0, at + _FIXED_BYTES[tag], _NUMBER_BYTES if tag < 0xD4 else _EXT_BYTES
    width = _LENGTH_BYTES.get(tag)
    if width is None:
        if tag == 0xC1:
            raise WireError("the body is not one msgpack value: it holds the byte c1")
        return 0, at, 0  # nil and booleans
    number = int.from_bytes(body[at : at + width], "big")
    at += width
    if tag >= 0xDE:
        return 2 * number, at, _map_bytes(number)
    if tag >= 0xDC:
        return number, at, _ARRAY_BYTES + _SLOT_BYTES * number
    if tag >= 0xD9:
        return 0, at + number, _text_bytes(body, at, number)
    if tag >= 0xC7:
        return 0, at + number + 1, _EXT_BYTES + number
    return 0, at + number, _RAW_BYTES + number


def _map_bytes(pairs: int) -> int:
    """Return what a dict takes: an empty one has no table."""
    return _MAP_BYTES + _PAIR_BYTES * max(pairs, _FEWEST_PAIRS) if pairs else _MAP_BYTES


def _text_bytes(body: bytes, at: int, number: int) -> int:
    """Return what a text takes: CPython has 1, 2 or 4 bytes for each of its characters."""
    if number <= _SHORT_TEXT:
        return _TEXT_BYTES + 4 * number
    text = body[at : at + number]
    if text.isascii():
        return _TEXT_BYTES + number
    characters = len(text.translate(None, _CONTINUATION))
    if text.translate(None, _BELOW_FOUR_BYTES):
        return _TEXT_BYTES + 4 * characters + number
    if text.translate(None, _BELOW_TWO_BYTES):
        return _TEXT_BYTES + 2 * characters + number
    return _TEXT_BYTES + characters + number
