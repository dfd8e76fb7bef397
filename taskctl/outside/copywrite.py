"""Writes the records of a copy to a file or folder. Blocking.

Tasks may write there at the same time, and what is received may be made up: each part of a path is
opened without following a link, below a trusted directory. A file has another name until it is
complete, and replaces what has its name then.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from taskctl import beneath
from taskctl.outside.copyframes import (
    CopyFrame,
    FrameKind,
    TransferError,
    checked_name,
    checked_path,
    stays_inside,
)
from taskctl.outside.copyread import copy_error

_TEMPORARY: Final = ".taskctl-cp-"
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """Where the copy goes to, by the rules of ``cp``.

    Attributes:
        root: a trusted directory.
        path: below it; an existing folder takes the copy under its own name, anything else is
            the name of the copy. With a slash at its end it must be an existing folder.
        gives_away: what root makes belongs to the owner of the folder above, as it would if a
            task had made it.
    """

    root: Path
    path: str
    gives_away: bool = False


@dataclass(slots=True)
class _Unfinished:
    """A file that is being written."""

    path: str
    parent: int
    temporary: str
    fd: int


class Receiver:
    """Takes records, and writes what they say.

    Args:
        target: where.
    """

    def __init__(self, target: CopyTarget) -> None:
        self._target = target
        self._top: str | None = None
        self._is_folder = False
        self._open: _Unfinished | None = None

    def feed(self, frame: CopyFrame) -> None:
        """Carry out one record.

        Raises:
            TransferError: it cannot be written, or leads elsewhere.
        """
        if frame.kind in (FrameKind.SKIPPED, FrameKind.FAILED, FrameKind.COMPLETE):
            if frame.kind is FrameKind.COMPLETE and (self._top is None or self._open):
                raise _out_of_order()
            return
        if (self._open is None) is (frame.kind in (FrameKind.DATA, FrameKind.END)):
            raise _out_of_order()
        if self._open is not None:
            self._continue(self._open, frame)
            return
        path = self._path(frame)
        try:
            match frame.kind:
                case FrameKind.FILE:
                    self._open = self._begin(path, frame.mode)
                case FrameKind.DIRECTORY:
                    self._make_folder(path, frame.mode)
                case _:
                    self._make_link(path, frame)
        except OSError as error:
            raise copy_error(path or ".", error) from error

    def close(self) -> None:
        """Drop a file that is not complete."""
        if self._open is not None:
            open_file, self._open = self._open, None
            with suppress(OSError):
                os.unlink(open_file.temporary, dir_fd=open_file.parent)
            os.close(open_file.fd)
            os.close(open_file.parent)

    # --- names --------------------------------------------------------------------------

    def _path(self, frame: CopyFrame) -> str:
        """Return where a record belongs, below the root."""
        path = checked_path(frame.path)
        if self._top is None:
            is_folder = frame.kind is FrameKind.DIRECTORY
            if path or frame.kind is FrameKind.LINK:
                raise _out_of_order()
            self._top = self._choose_top(checked_name(frame.text), is_folder)
            self._is_folder = is_folder
            return self._top
        if not path or not self._is_folder:
            raise _out_of_order()
        return f"{self._top}/{path}" if self._top else path

    def _choose_top(self, name: str, is_folder: bool) -> str:
        path = "/".join(PurePosixPath(self._target.path.strip("/")).parts)
        try:
            return self._chosen(path, name, is_folder)
        except OSError as error:
            raise copy_error(path or ".", error) from error

    def _chosen(self, path: str, name: str, is_folder: bool) -> str:
        mode = self._mode_of(path)
        if mode is not None and stat.S_ISDIR(mode):
            if not name and not is_folder:
                raise TransferError(path, "is a folder; name the file")
            return "/".join(part for part in (path, name) if part)
        if mode is not None and is_folder:
            raise TransferError(path, "is not a folder, so a folder cannot be copied to it")
        if self._target.path.endswith("/") and not is_folder:
            problem = "is not a folder" if mode else "does not exist; make that folder first"
            raise TransferError(
                path, f"{problem}, or leave out the slash at the end", missing=not mode
            )
        parent = "/".join(PurePosixPath(path).parts[:-1])
        if mode is None and self._mode_of(parent) is None:
            raise TransferError(parent, "does not exist; make that folder first", missing=True)
        return path

    def _mode_of(self, path: str) -> int | None:
        parts = PurePosixPath(path).parts
        try:
            with beneath.directory(self._target.root, "/".join(parts[:-1])) as parent:
                name = parts[-1] if parts else "."
                return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return None

    # --- what is made -------------------------------------------------------------------

    def _make_folder(self, path: str, mode: int) -> None:
        if not path:
            return
        parts = PurePosixPath(path).parts
        with beneath.directory(self._target.root, "/".join(parts[:-1])) as parent:
            try:
                os.mkdir(parts[-1], mode | 0o700, dir_fd=parent)
                made = True
            except FileExistsError:
                made = False
            with beneath.directory(self._target.root, path) as fd:
                # One with something in it is another one, which a task has put there meanwhile.
                if made and not os.listdir(fd):
                    self._give_away(fd, parent)

    def _make_link(self, path: str, frame: CopyFrame) -> None:
        if not stays_inside(frame.path, frame.text):
            raise TransferError(
                path, f"would be a symbolic link out of the copy, to {frame.text!r}"
            )
        *above, name = PurePosixPath(path).parts
        with beneath.directory(self._target.root, "/".join(above)) as parent:
            existing = _status(parent, name)
            if existing and not stat.S_ISLNK(existing.st_mode):
                raise TransferError(
                    path, "exists already, and is not a symbolic link; remove it first"
                )
            temporary = _TEMPORARY + secrets.token_hex(8)
            os.symlink(frame.text, temporary, dir_fd=parent)
            try:
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except OSError:
                os.unlink(temporary, dir_fd=parent)
                raise

    def _begin(self, path: str, mode: int) -> _Unfinished:
        *above, name = PurePosixPath(path).parts
        with beneath.directory(self._target.root, "/".join(above)) as parent:
            existing = _status(parent, name)
            if existing is not None and not stat.S_ISREG(existing.st_mode):
                raise TransferError(path, _in_the_way(existing.st_mode))
            temporary = _TEMPORARY + secrets.token_hex(8)
            fd = os.open(temporary, _NEW, mode, dir_fd=parent)
            opened = _Unfinished(path, os.dup(parent), temporary, fd)
        self._open = opened
        self._give_away(fd, opened.parent)
        if existing is not None:
            os.fchmod(fd, stat.S_IMODE(existing.st_mode) & 0o777)
        return opened

    def _continue(self, open_file: _Unfinished, frame: CopyFrame) -> None:
        try:
            if frame.kind is FrameKind.DATA:
                view = memoryview(frame.data)
                while view:
                    view = view[os.write(open_file.fd, view) :]
            elif frame.text:  # not complete
                self.close()
            else:
                name = PurePosixPath(open_file.path).name
                parent = open_file.parent
                os.rename(open_file.temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
                self._open = None
                os.close(open_file.fd)
                os.close(parent)
        except OSError as error:
            raise copy_error(open_file.path, error) from error

    def _give_away(self, fd: int, parent: int) -> None:
        if self._target.gives_away and os.geteuid() == 0:
            owner = os.fstat(parent)
            os.fchown(fd, owner.st_uid, owner.st_gid)


class StreamReceiver:
    """Takes the records of one file, and writes its content to a stream.

    Args:
        write: takes content.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._begun = False

    def feed(self, frame: CopyFrame) -> None:
        """Carry out one record.

        Raises:
            TransferError: it is not a file, or cannot be written.
        """
        if frame.kind is FrameKind.DIRECTORY:
            raise TransferError("-", "takes one file, not a folder")
        if frame.kind is FrameKind.FILE and not self._begun:
            self._begun = True
        elif frame.kind is FrameKind.DATA and self._begun:
            try:
                self._write(frame.data)
            except OSError as error:
                raise copy_error("-", error) from error
        elif frame.kind in (FrameKind.FILE, FrameKind.LINK, FrameKind.DATA):
            raise _out_of_order()

    def close(self) -> None:
        """End."""


def _status(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _in_the_way(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "is a folder, which is not overwritten by a file"
    if stat.S_ISLNK(mode):
        return "is a symbolic link, which is not followed; remove it first"
    return "is a device, pipe or socket, which is not overwritten"


def _out_of_order() -> TransferError:
    return TransferError("", "the other side sent parts of a copy that do not fit together")
