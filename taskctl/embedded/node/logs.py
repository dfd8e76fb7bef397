"""Reading a container's log file (CRI format) with the options of ``kubectl logs``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from taskctl.clock import parse_time
from taskctl.embedded.node.records import LOG_FILE, OLD_LOG_FILE

_CHUNK: Final = 64 * 1024
_FULL: Final = b"F"


class LogOptionError(Exception):
    """A query parameter of a log request is wrong; the message names it."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """The options of ``kubectl logs``.

    Attributes:
        follow: continue until the container ends.
        previous: the run before the latest.
        timestamps: keep the time at the beginning of each line.
        since: leave out what is older.
        tail_lines: only so many lines from the end; None for all.
        limit_bytes: stop after so many; None for no limit.
        stream: only this one, ``stdout`` or ``stderr``; None for both as they came.
    """

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since: datetime | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None
    stream: str | None = None


def parse_query(query: Mapping[str, str], now: datetime) -> LogQuery:
    """Read the options as ``kubectl logs`` sends them.

    Raises:
        LogOptionError: a value is malformed, or two options exclude one another.
    """
    if "sinceSeconds" in query and "sinceTime" in query:
        raise LogOptionError("at most one of sinceTime or sinceSeconds may be specified")
    since = None
    if "sinceSeconds" in query:
        since = now - timedelta(seconds=_count(query, "sinceSeconds", 1) or 0)
    elif "sinceTime" in query:
        try:
            since = parse_time(query["sinceTime"])
        except ValueError as error:
            raise LogOptionError(f"sinceTime: {error}") from error
    return LogQuery(
        follow=_flag(query, "follow"),
        previous=_flag(query, "previous"),
        timestamps=_flag(query, "timestamps"),
        since=since,
        tail_lines=_count(query, "tailLines", 0),
        limit_bytes=_count(query, "limitBytes", 1),
    )


class LogReader:
    """Turns a container's log files into the bytes that the client wants. Blocking.

    Args:
        directory: of the container's run.
        query: the options.
    """

    def __init__(self, directory: Path, query: LogQuery) -> None:
        self._directory = directory
        self._query = query
        self._file: BinaryIO | None = None
        self._left = query.limit_bytes
        self._rest = b""
        self._open_line = False
        self._begun = False

    @property
    def is_full(self) -> bool:
        """Whether the byte limit is reached."""
        return self._left is not None and self._left <= 0

    def read(self) -> bytes:
        """Return what there is to send now: at most a chunk; empty when there is nothing more."""
        if not self._begun:
            self._begun = True
            return self._first()
        while not self.is_full:
            data = self._file.read(_CHUNK) if self._file is not None else b""
            if data:
                if sent := self._convert(data):
                    return sent
            elif not self._next_file():
                return b""
        return b""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _first(self) -> bytes:
        """The old file as far as it is wanted; the current one is open afterwards."""
        lines = self._query.tail_lines
        old, new = self._directory / OLD_LOG_FILE, self._directory / LOG_FILE
        if lines is None:
            self._file = _open(old) or _open(new)
            return self.read()
        self._file = _open(new)
        recent = b"" if self._file is None else _tail(self._file, lines)
        have = _whole_lines(recent)
        before = b""
        if have < lines and (file := _open(old)) is not None:
            with file:
                before = _tail(file, lines - have)
        return self._convert(before + recent) or self.read()

    def _next_file(self) -> bool:
        """At the end of a file: continue with the one that took its place, if there is one."""
        current = _open(self._directory / LOG_FILE)
        if current is None:
            return False
        if self._file is not None:
            if os.fstat(self._file.fileno()).st_ino == os.fstat(current.fileno()).st_ino:
                current.close()
                return False
            # Rotated meanwhile: what was written to the old one before that comes first.
            if self._file.tell() < os.fstat(self._file.fileno()).st_size:
                current.close()
                return True
            self._file.close()
        self._file = current
        return True

    def _convert(self, data: bytes) -> bytes:
        *lines, self._rest = (self._rest + data).split(b"\n")
        out = bytearray()
        for line in lines:
            out += self._line(line)
        if self._left is not None:
            del out[max(self._left, 0) :]
            self._left -= len(out)
        return bytes(out)

    def _line(self, line: bytes) -> bytes:
        parts = line.split(b" ", 3)
        if len(parts) < 4:
            return b""
        stamp, stream, tag, text = parts
        if self._query.stream is not None and stream.decode() != self._query.stream:
            return b""
        if self._query.since is not None and _before(stamp, self._query.since):
            return b""
        prefix = b"" if self._open_line or not self._query.timestamps else stamp + b" "
        self._open_line = tag != _FULL
        return prefix + text + (b"" if self._open_line else b"\n")


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _tail(file: BinaryIO, lines: int) -> bytes:
    """Return the last lines of a CRI file; a line in parts counts once. Leaves it at its end."""
    end = file.seek(0, os.SEEK_END)
    start, data = end, b""
    while start > 0 and _whole_lines(data) <= lines:
        step = min(_CHUNK, start)
        start -= step
        file.seek(start)
        data = file.read(step) + data
    file.seek(end)
    return b"".join(_last_lines(data.splitlines(keepends=True), lines))


def _last_lines(raw: list[bytes], lines: int) -> Iterator[bytes]:
    count, first = 0, len(raw)
    for index in range(len(raw) - 1, -1, -1):
        if _is_full(raw[index]) or index == len(raw) - 1:
            count += 1
            if count > lines:
                break
        first = index
    return iter(raw[first:] if lines else [])


def _whole_lines(data: bytes) -> int:
    return sum(1 for line in data.splitlines() if _is_full(line))


def _is_full(line: bytes) -> bool:
    parts = line.split(b" ", 3)
    return len(parts) > 2 and parts[2] == _FULL


def _before(stamp: bytes, since: datetime) -> bool:
    try:
        # Nanoseconds are more than datetime can hold.
        return parse_time(stamp[:26].decode() + "Z") < since
    except ValueError:
        return False


def _flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name, "").lower()
    if text not in ("", "true", "false", "1", "0", "t", "f"):
        raise LogOptionError(f"{name}: {query[name]!r} is not a boolean; write true or false")
    return text in ("true", "1", "t")


def _count(query: Mapping[str, str], name: str, least: int) -> int | None:
    if name not in query:
        return None
    try:
        value = int(query[name])
    except ValueError as error:
        raise LogOptionError(f"{name}: {query[name]!r} is not a whole number") from error
    if value < least:
        raise LogOptionError(f"{name}: must be {least} or more")
    return value
