"""What a copy between this machine and a workspace sends: records of files and folders. Pure.

Tar would have hard links, devices, absolute names, sparse maps and headers of any length, each
of which a reader has to refuse. Here the reader knows files, folders and links alone, each part has
a bound, and the last record says that nothing is missing.

A record has one byte for its kind, four for the length of what follows, and a JSON object, or the
content of a file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Final

from taskctl.errors import TaskctlError

CHUNK_BYTES: Final = 32 * 1024
MAX_PATH_CHARS: Final = 16 * 1024
_MAX_PAYLOAD_BYTES: Final = 256 * 1024
_HEAD: Final = struct.Struct(">cI")


class TransferError(TaskctlError):
    """A file or folder cannot be copied.

    Args:
        path: which, as seen from the directory that is copied from or to.
        why: in words that follow the path.
        missing: it is not there.
    """

    def __init__(self, path: str, why: str, *, missing: bool = False) -> None:
        super().__init__(f"{path} {why}".strip())
        self.path = path
        self.why = why
        self.missing = missing


class FrameKind(StrEnum):
    """What a record says."""

    FILE = "F"
    DATA = "A"
    END = "Z"
    DIRECTORY = "D"
    LINK = "L"
    SKIPPED = "S"
    FAILED = "E"
    COMPLETE = "O"


@dataclass(frozen=True, slots=True)
class CopyFrame:
    """One record.

    Attributes:
        kind: of record.
        path: below what is copied; empty: that itself. Of FAILED: below the workspace.
        mode: permissions of a file or folder.
        text: the name of what is copied (FILE and DIRECTORY without a path), where a link points
            to (LINK), why something was left out (SKIPPED, FAILED), or why the file is not
            complete (END).
        wrong: what was left out should not have been (SKIPPED), or is not there (FAILED).
        data: of a file (DATA).
    """

    kind: FrameKind
    path: str = ""
    mode: int = 0
    text: str = ""
    wrong: bool = False
    data: bytes = b""

    def encoded(self) -> bytes:
        """Return the record as it is sent."""
        payload = self.data
        if self.kind is not FrameKind.DATA:
            fields = {"p": self.path, "m": self.mode, "t": self.text, "w": self.wrong}
            # As ASCII, so that names that are not UTF-8 arrive as they are.
            payload = json.dumps({key: value for key, value in fields.items() if value}).encode()
        return _HEAD.pack(self.kind.encode(), len(payload)) + payload


class TransferReader:
    """Takes records out of what is received; it keeps one at most."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[CopyFrame]:
        """Yield the records that are complete with this chunk.

        Raises:
            TransferError: what was sent is none.
        """
        self._rest += chunk
        position = 0
        while len(self._rest) - position >= _HEAD.size:
            kind, size = _HEAD.unpack_from(self._rest, position)
            if size > _MAX_PAYLOAD_BYTES:
                raise _no_frame()
            end = position + _HEAD.size + size
            if len(self._rest) < end:
                break
            yield _decoded(kind, bytes(self._rest[position + _HEAD.size : end]))
            position = end
        del self._rest[:position]


def _decoded(kind_byte: bytes, payload: bytes) -> CopyFrame:
    try:
        kind = FrameKind(kind_byte.decode("ascii"))
        if kind is FrameKind.DATA:
            return CopyFrame(kind, data=payload)
        fields = json.loads(payload)
        return CopyFrame(
            kind,
            path=_typed(fields, "p", str, ""),
            mode=_typed(fields, "m", int, 0) & 0o777,
            text=_typed(fields, "t", str, ""),
            wrong=_typed(fields, "w", bool, False),
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise _no_frame() from None


def _typed(fields: Any, key: str, kind: type, default: Any) -> Any:
    value = fields.get(key, default)
    if not isinstance(value, kind):
        raise TypeError(key)
    return value


def _no_frame() -> TransferError:
    return TransferError("", "the other side sent something other than a copy")


def checked_path(path: str) -> str:
    """Return the path of a record, which leads to nowhere but below what is copied.

    Raises:
        TransferError: it leads elsewhere.
    """
    if path and not all(_is_name(part) for part in path.split("/")):
        raise TransferError("", f"the other side sent {path!r}, which is not a path in the copy")
    return path


def checked_name(name: str) -> str:
    """Return the name of what is copied: one part of a path, or empty.

    Raises:
        TransferError: it is none.
    """
    if name and ("/" in name or not _is_name(name)):
        raise TransferError("", f"the other side sent {name!r}, which is not the name of a file")
    return name


def _is_name(part: str) -> bool:
    return part not in ("", ".", "..") and "\0" not in part


def stays_inside(path: str, target: str) -> bool:
    """Whether a link at ``path`` leads to a place inside of what is copied.

    It may go up from the folder that holds it, then down. Going up after that is refused: there
    ``..`` may follow another link, and lead to a place that the text does not show.
    """
    if not path or not target or target.startswith("/") or "\0" in target:
        return False
    parts = PurePosixPath(target).parts
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    return ".." not in parts[ups:] and ups <= path.count("/")
