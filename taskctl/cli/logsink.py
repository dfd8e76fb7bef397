"""Where the bytes of a log go: to the terminal or a pipe, as they are or line by line behind a
prefix, or into a spool until it is their turn.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from typing import IO, Final, Protocol

from taskctl.cli.terminal import LogFilter, with_looks

_SPOOL_BYTES: Final = 1024 * 1024
_CHUNK: Final = 64 * 1024
# A line without an end must not fill the memory.
MAX_LINE_BYTES: Final = 1024 * 1024
_RESET: Final = b"\x1b[0m"


class ChunkWriter(Protocol):
    """Takes a log, chunk by chunk."""

    def write(self, chunk: bytes) -> None:
        """Take a part of the log."""
        ...

    def end(self) -> None:
        """Print what was held back: the attempt is over."""
        ...


class PlainWriter:
    """Prints a log as it is.

    Args:
        filtered: make it safe for a terminal.
        err: on stderr, where the last line always gets an end: other messages follow.
    """

    def __init__(self, *, filtered: bool, err: bool = False) -> None:
        self._filter = LogFilter() if filtered else None
        self._err = err
        self._open_line = False

    def write(self, chunk: bytes) -> None:
        """Print a part of the log."""
        self._print(self._filter.feed(chunk) if self._filter else chunk)
        if chunk:
            self._open_line = not chunk.endswith(b"\n")

    def end(self) -> None:
        """Print what was held back."""
        if self._filter is not None:
            self._print(self._filter.end())
        if self._err and self._open_line:
            self._print(b"\n")
            self._open_line = False

    def _print(self, chunk: bytes) -> None:
        _print(chunk, err=self._err)


class LineWriter:
    """Prints a log in whole lines, each behind a prefix, so that several logs can share a screen.

    On a terminal a line shows what a terminal would show of it: of the parts between carriage
    returns (a progress bar) the last one. Otherwise a task could overwrite the prefix.

    Args:
        prefix: safe for a terminal.
        filtered: make the lines safe for a terminal.
        err: on stderr.
    """

    def __init__(self, prefix: str, *, filtered: bool, err: bool = False) -> None:
        self._prefix = prefix.encode()
        self._filtered = filtered
        self._err = err
        self._rest = b""

    def write(self, chunk: bytes) -> None:
        """Print the lines that the chunk completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        while len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest[:MAX_LINE_BYTES])
            self._rest = self._rest[MAX_LINE_BYTES:]
        if lines:
            _print(b"".join(map(self._line, lines)), err=self._err)

    def end(self) -> None:
        """Print the last line, if it has no end."""
        if self._rest:
            _print(self._line(self._rest), err=self._err)
            self._rest = b""

    def _line(self, line: bytes) -> bytes:
        if not self._filtered:
            return self._prefix + line + b"\n"
        shown = line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "backslashreplace")
        safe = with_looks(shown, keep="\t").encode("utf-8", "backslashreplace")
        reset = _RESET if b"\x1b" in safe else b""
        return self._prefix + safe + reset + b"\n"


class Spool:
    """Keeps a log, in a file if it is long, until it is its turn. To be closed."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115

    def write(self, chunk: bytes) -> None:
        """Keep a part of the log."""
        self._file.write(chunk)

    def end(self) -> None:
        """Nothing was held back."""

    def pour(self, into: ChunkWriter) -> None:
        """Hand everything to another writer."""
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            into.write(chunk)
        into.end()

    def close(self) -> None:
        """Give the room back."""
        self._file.close()


class Sink:
    """A writer, with a memory of what went there."""

    def __init__(self, writer: ChunkWriter) -> None:
        self._writer = writer
        self._digest = hashlib.blake2b()
        self.count = 0

    def write(self, chunk: bytes) -> None:
        """Hand a part of the log on."""
        self.count += len(chunk)
        self._digest.update(chunk)
        self._writer.write(chunk)

    def end(self) -> None:
        """Print what was held back."""
        self._writer.end()

    def printed(self, start: bytes) -> bool:
        """Whether ``start`` is the digest of what was printed."""
        return self._digest.digest() == start


def _print(chunk: bytes, *, err: bool) -> None:
    stream = sys.stderr if err else sys.stdout
    stream.buffer.write(chunk)
    stream.flush()
