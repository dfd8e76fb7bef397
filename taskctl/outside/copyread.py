"""Reads a file or folder as records of a copy. Blocking.

Tasks may write to what is read: no link is followed, nothing but regular files is opened, and a
directory that is swapped meanwhile leads to nowhere.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from taskctl import beneath
from taskctl.outside.copyframes import (
    CHUNK_BYTES,
    MAX_PATH_CHARS,
    CopyFrame,
    FrameKind,
    TransferError,
    stays_inside,
)

MAX_DEPTH: Final = 100  # folders inside of each other; each one is open meanwhile
Frames = Generator[CopyFrame, None, None]
_SUB_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STREAM_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class CopySource:
    """What is copied.

    Attributes:
        root: a trusted directory.
        path: below it; empty: itself. With a slash at its end it must be a folder.
        name: of the copy, if it comes into an existing folder; empty: what is in it comes there.
        bounded: a file is read as far as it reached when it was opened; it may grow forever.
        left_out: device and inode of folders that are the local stack's own.
    """

    root: Path
    path: str
    name: str
    bounded: bool = True
    left_out: frozenset[tuple[int, int]] = frozenset()


def read_frames(source: CopySource) -> Frames:
    """Yield the records of a file or folder, the last one says that it is complete.

    Raises:
        TransferError: it is not there, is neither file nor folder, or cannot be read.
    """
    path = source.path.strip("/")
    try:
        if path in ("", "."):
            with beneath.directory(source.root) as fd:
                yield from _folder(fd, source)
        else:
            yield from _entry(source, path)
    except OSError as error:
        raise copy_error(path or ".", error) from error
    yield CopyFrame(FrameKind.COMPLETE)


def _entry(source: CopySource, path: str) -> Frames:
    pure = PurePosixPath(path)
    with beneath.directory(source.root, "/".join(pure.parts[:-1])) as parent:
        mode = os.stat(pure.name, dir_fd=parent, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            raise TransferError(path, "is a symbolic link, which is not followed; name its target")
        if stat.S_ISDIR(mode):
            fd = os.open(pure.name, _SUB_DIRECTORY, dir_fd=parent)
            try:
                yield from _folder(fd, source)
            finally:
                os.close(fd)
            return
        if not stat.S_ISREG(mode):
            raise TransferError(path, f"is {_special(mode)}; only files and folders are copied")
        if source.path.endswith("/"):
            raise TransferError(path, "is a file, not a folder; leave out the slash at the end")
        yield from _file(parent, pure.name, "", source)


def _folder(fd: int, source: CopySource) -> Frames:
    mode = stat.S_IMODE(os.fstat(fd).st_mode) & 0o777
    yield CopyFrame(FrameKind.DIRECTORY, mode=mode, text=source.name)
    yield from _below(fd, "", source, 1)


def _below(fd: int, path: str, source: CopySource, depth: int) -> Frames:
    with os.scandir(fd) as entries:
        for entry in entries:
            below = f"{path}/{entry.name}" if path else entry.name
            if len(below) > MAX_PATH_CHARS or depth > MAX_DEPTH:
                yield _skipped(below[:MAX_PATH_CHARS], "lies too deep", wrong=True)
                continue
            try:
                yield from _member(fd, entry.name, below, source, depth)
            except FileNotFoundError:
                yield _skipped(below, "was deleted meanwhile")
            except OSError as error:
                yield _skipped(below, reason(error), wrong=True)


def _member(parent: int, name: str, path: str, source: CopySource, depth: int) -> Frames:
    mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    if stat.S_ISREG(mode):
        yield from _file(parent, name, path, source)
    elif stat.S_ISDIR(mode):
        fd = os.open(name, _SUB_DIRECTORY, dir_fd=parent)
        try:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) in source.left_out:
                yield _skipped(path, "belongs to the local stack")
                return
            yield CopyFrame(FrameKind.DIRECTORY, path, mode=stat.S_IMODE(mode) & 0o777)
            yield from _below(fd, path, source, depth + 1)
        finally:
            os.close(fd)
    elif stat.S_ISLNK(mode):
        target = os.readlink(name, dir_fd=parent)
        if stays_inside(path, target):
            yield CopyFrame(FrameKind.LINK, path, text=target)
        else:
            yield _skipped(path, f"is a symbolic link that leads out of the copy, to {target}")
    else:
        yield _skipped(path, f"is {_special(mode)}")


def _file(parent: int, name: str, path: str, source: CopySource) -> Frames:
    fd = beneath.open_regular(parent, name)
    try:
        status = os.fstat(fd)
        text = "" if path else source.name
        mode = stat.S_IMODE(status.st_mode) & 0o777
        yield CopyFrame(FrameKind.FILE, path, mode=mode, text=text)
        left = status.st_size if source.bounded else None
        why = ""
        while left is None or left > 0:
            try:
                data = os.read(fd, CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
            except OSError as error:
                why = reason(error)
                break
            if not data:
                break
            left = None if left is None else left - len(data)
            yield CopyFrame(FrameKind.DATA, data=data)
        yield CopyFrame(FrameKind.END, path, text=why)
    finally:
        os.close(fd)


def stream_frames(fd: int) -> Frames:
    """Yield the records of a file whose content comes from a stream.

    While none comes, an empty record is yielded every second, so that the other side hears
    from us and the caller may stop.

    Raises:
        TransferError: it cannot be read.
    """
    yield CopyFrame(FrameKind.FILE, mode=0o666)
    while True:
        try:
            if not select.select([fd], [], [], _STREAM_PAUSE_S)[0]:
                yield CopyFrame(FrameKind.DATA)
                continue
            data = os.read(fd, CHUNK_BYTES)
        except OSError as error:
            raise copy_error("-", error) from error
        if not data:
            break
        yield CopyFrame(FrameKind.DATA, data=data)
    yield CopyFrame(FrameKind.END)
    yield CopyFrame(FrameKind.COMPLETE)


def _skipped(path: str, why: str, *, wrong: bool = False) -> CopyFrame:
    return CopyFrame(FrameKind.SKIPPED, path, text=why, wrong=wrong)


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def copy_error(path: str, error: OSError) -> TransferError:
    """Return what an error of the operating system comes to."""
    return TransferError(path, reason(error), missing=isinstance(error, FileNotFoundError))


def reason(error: OSError) -> str:
    """Return why a path cannot be used, in words that follow it."""
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return "leads through a file or a symbolic link, which is not followed"
    return f"cannot be used: {error.strerror or error}"
