"""The copy of a log in the workspace as it lies there: a file, and segments where it was long.

taskctl-init keeps the beginning of a long log in the file itself. What comes later lies in segments
in the directory ``<file>.d``, named after the position at which they begin; of these only the last
ones stay. A position counts bytes from the beginning of the log, whether they are still there or
not. All functions block; nothing is followed but what was opened below the workspace.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskctl import beneath
from taskctl.constants import LOG_SEGMENTS_SUFFIX

CHUNK_BYTES: Final = 64 * 1024
_TRIES: Final = 5
_MAX_SEGMENTS: Final = 1000  # a task may put any number of files there


@dataclass(frozen=True, slots=True)
class LogPart:
    """A part of a log.

    Attributes:
        data: what to show.
        end: position after it.
        cut: ``data`` says what is missing here, and is not of the log.
    """

    data: bytes
    end: int
    cut: bool = False


@dataclass(frozen=True, slots=True)
class _Piece:
    path: str
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


class LogPieces:
    """The copy of the log of an attempt.

    Args:
        root: of the workspace.
        relative: of the file, below the root.
    """

    def __init__(self, root: Path, relative: str) -> None:
        self._root = root
        self._relative = relative

    def size(self) -> int:
        """Return the position of the end.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        return self._pieces()[-1].end

    def read(self, offset: int) -> LogPart | None:
        """Return up to 64 KiB from a position on, or a mark where that is cut; None at the end.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        for _ in range(_TRIES):
            piece = next((piece for piece in self._pieces() if offset < piece.end), None)
            if piece is None:
                return None
            if offset < piece.start:
                return LogPart(cut_mark(piece.start - offset), piece.start, cut=True)
            with contextlib.suppress(FileNotFoundError):
                data = self._pread(piece, CHUNK_BYTES, offset - piece.start)
                # Less where it was cut off meanwhile.
                return LogPart(data, offset + len(data)) if data else None
        raise FileNotFoundError(0, "is rotated faster than it is read")

    def tail_offset(self, lines: int) -> int:
        """Return the position where the last lines begin; not before the last cut.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        pieces = self._pieces()
        end = size = pieces[-1].end
        if lines == 0:
            return size
        wanted = lines
        for piece in reversed(pieces):
            if piece.end != end:
                return end  # what lies before is cut
            while end > piece.start:
                start = max(piece.start, end - CHUNK_BYTES)
                block = self._pread(piece, end - start, start - piece.start)
                # The end of the last line is none between two lines.
                if end == size and block.endswith(b"\n"):
                    wanted += 1
                position = len(block)
                while (position := block.rfind(b"\n", 0, position)) >= 0:
                    wanted -= 1
                    if wanted == 0:
                        return start + position + 1
                end = start
        return 0

    def _pieces(self) -> list[_Piece]:
        with beneath.regular_file(self._root, self._relative) as (_, status):
            first = _Piece(self._relative, 0, status.st_size)
            owner = status.st_uid
        return [first, *(piece for piece in self._segments(owner) if piece.start >= first.size)]

    def _segments(self, owner: int) -> list[_Piece]:
        directory = self._relative + LOG_SEGMENTS_SUFFIX
        found = []
        with (
            contextlib.suppress(OSError),  # there is none, or a task has put something in its place
            beneath.directory(self._root, directory) as fd,
            os.scandir(fd) as entries,
        ):
            for entry in entries:
                if not (entry.name.isascii() and entry.name.isdigit() and len(entry.name) < 19):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    # What the attempt did not write itself is not its log.
                    if entry.is_file(follow_symlinks=False) and status.st_uid == owner:
                        path = f"{directory}/{entry.name}"
                        found.append(_Piece(path, int(entry.name), status.st_size))
                if len(found) >= _MAX_SEGMENTS:
                    break
        return sorted(found, key=lambda piece: piece.start)

    def _pread(self, piece: _Piece, size: int, offset: int) -> bytes:
        with beneath.regular_file(self._root, piece.path) as (fd, _):
            return os.pread(fd, min(size, piece.size - offset), offset)


def cut_mark(missing: int) -> bytes:
    """Return the line that stands in the place of what was cut."""
    return (
        f"\n--- taskctl: {missing} bytes of this log were not kept "
        "(spec.workspace.logLimitBytes of the TaskCluster) ---\n"
    ).encode()
