"""Successive texts of one object, kept as the first one and the steps between them.

A change of a large object is as a rule small: one more container in a pod of a hundred. A chain
keeps its first text compressed, and of every later one only what differs from the one before.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final

# Reading a version costs a few microseconds per step before it.
MAX_STEPS: Final = 32
_COMPRESS_FROM_BYTES: Final = 512
# What Python takes for a bytes object and its place in a list.
_OBJECT_BYTES: Final = 64
_CHAIN_BYTES: Final = 400

_HUNK: Final = struct.Struct("<III")  # start and end in the old text, length of what replaces it
_ANCHOR_BYTES: Final = 24
_SKIPS: Final = (0, 8, 32, 128, 512, 2048)
_REACH_BYTES: Final = 4096
_MAX_HUNKS: Final = 64


class Chain:
    """Versions of one object.

    Attributes:
        size_bytes: memory that the chain takes.
        users: how many events of the history are read from it.
    """

    __slots__ = ("_base", "_steps", "size_bytes", "users")

    def __init__(self, text: bytes) -> None:
        self._base = _pack(text)
        self._steps: list[bytes] = []
        self.size_bytes = _CHAIN_BYTES + _OBJECT_BYTES + len(self._base)
        self.users = 0

    @property
    def last(self) -> int:
        """The index of the newest version."""
        return len(self._steps)

    @property
    def full(self) -> bool:
        """True if no more versions should be added."""
        return len(self._steps) >= MAX_STEPS

    def add(self, before: bytes, after: bytes) -> int:
        """Add a version.

        Args:
            before: the text of the version that is the newest so far.
            after: the new text.

        Returns:
            The index of the new version.
        """
        step = _pack(difference(before, after))
        self._steps.append(step)
        self.size_bytes += _OBJECT_BYTES + len(step)
        return len(self._steps)

    def text(self, index: int, known: tuple[int, bytes] | None = None) -> bytes:
        """Return the text of a version.

        Args:
            index: of the version.
            known: index and text of an earlier one, if the caller has it.
        """
        at, text = known if known is not None and known[0] <= index else (0, _unpack(self._base))
        for step in self._steps[at:index]:
            text = patched(text, _unpack(step))
        return text


class Reader:
    """Reads versions one after the other, each from the one before where it can."""

    _REMEMBERED: Final = 32

    def __init__(self) -> None:
        self._known: dict[Chain, tuple[int, bytes]] = {}

    def text(self, chain: Chain, index: int) -> bytes:
        """Return the text of a version."""
        text = chain.text(index, self._known.get(chain))
        if chain not in self._known and len(self._known) >= self._REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[chain] = (index, text)
        return text


def _pack(data: bytes) -> bytes:
    """Compress what is worth it. The first byte says whether it is."""
    if len(data) < _COMPRESS_FROM_BYTES:
        return b"=" + data
    packed = zlib.compress(data, 1)
    return b"z" + packed if len(packed) < len(data) else b"=" + data


def _unpack(data: bytes) -> bytes:
    return zlib.decompress(data[1:]) if data[:1] == b"z" else data[1:]


def difference(old: bytes, new: bytes) -> bytes:
    """Return the step from one text to another, for :func:`patched`.

    It looks for the next common piece a little further on; what it does not find costs space,
    never correctness.
    """
    tail = _same_end(old, len(old), new, len(new))
    old_end, new_end = len(old) - tail, len(new) - tail
    hunks: list[bytes] = []
    i = j = 0
    while True:
        same = _same_start(old, i, old_end, new, j, new_end)
        i, j = i + same, j + same
        if i == old_end and j == new_end:
            break
        next_i, next_j = old_end, new_end
        if len(hunks) < 2 * _MAX_HUNKS:
            next_i, next_j = _meet(old, i, old_end, new, j, new_end)
        hunks += (_HUNK.pack(i, next_i, next_j - j), new[j:next_j])
        i, j = next_i, next_j
    return b"".join(hunks)


def patched(old: bytes, step: bytes) -> bytes:
    """Return the text that a step leads to."""
    parts: list[bytes] = []
    at = done = 0
    while at < len(step):
        start, end, length = _HUNK.unpack_from(step, at)
        at += _HUNK.size
        parts += (old[done:start], step[at : at + length])
        done = end
        at += length
    parts.append(old[done:])
    return b"".join(parts)


def _meet(old: bytes, i: int, old_end: int, new: bytes, j: int, new_end: int) -> tuple[int, int]:
    """Return where the texts are the same again, after they differ at ``i`` and ``j``."""
    for skip in _SKIPS:
        ahead = j + skip
        if ahead + _ANCHOR_BYTES > new_end:
            break
        found = old.find(
            new[ahead : ahead + _ANCHOR_BYTES], i, min(old_end, i + skip + _REACH_BYTES)
        )
        if found >= 0:
            back = min(_same_end(old, found, new, ahead), found - i, ahead - j)
            return found - back, ahead - back
    return old_end, new_end


def _same_start(old: bytes, i: int, old_end: int, new: bytes, j: int, new_end: int) -> int:
    """Return how many bytes are the same from ``i`` and ``j`` on."""
    return _agreeing(
        min(old_end - i, new_end - j),
        lambda at, end: old[i + at : i + end] == new[j + at : j + end],
    )


def _same_end(old: bytes, i: int, new: bytes, j: int) -> int:
    """Return how many bytes are the same before ``i`` and ``j``."""
    return _agreeing(min(i, j), lambda at, end: old[i - end : i - at] == new[j - end : j - at])


def _agreeing(limit: int, agree: Callable[[int, int], bool]) -> int:
    """Return up to where two texts agree; pieces are compared, larger ones while they do."""
    done, size, growing = 0, 64, True
    while done < limit:
        size = min(size, limit - done)
        if agree(done, done + size):
            done += size
            size = size * 2 if growing else size
        elif size == 1:
            break
        else:
            growing = False
            size //= 2
    return done
