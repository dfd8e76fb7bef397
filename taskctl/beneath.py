"""Opening files below a directory that hostile code writes to.

Tasks own what lies in a workspace: a name there may be a symbolic link to the reader's own
secrets, a FIFO that never answers, or a device. So each part of a path is opened on its own,
relative to the one before and without following a link, and a file only counts once its
descriptor has proved to be a regular file. No name is looked up twice, so there is nothing to
win by swapping files in between. ``..`` is refused, therefore no step leads out of the root.

The root itself is trusted and may be reached through links. All functions block.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# NONBLOCK: neither a FIFO without a peer nor a lease that another process holds may block us.
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextlib.contextmanager
def directory(root: Path, relative: str = "") -> Iterator[int]:
    """Open a directory below the root and yield its descriptor.

    Args:
        root: a trusted directory.
        relative: path below it; empty: the root itself.

    Raises:
        FileNotFoundError: it, or one on the way, is not there.
        OSError: a part of the path is not a directory, is a link, or is ``..``.
    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in _parts(relative):
            below = os.open(part, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def regular_file(root: Path, relative: str) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file for reading; yield its descriptor and status.

    Args:
        root: a trusted directory.
        relative: path below it.

    Raises:
        FileNotFoundError: it, or a directory on the way, is not there.
        OSError: it is not a regular file, or a part of the path is a link or ``..``.
    """
    parts = _parts(relative)
    if not parts:
        raise IsADirectoryError(errno.EISDIR, "is a directory", str(root))
    with directory(root, "/".join(parts[:-1])) as parent:
        fd = open_regular(parent, parts[-1])
    try:
        yield fd, os.fstat(fd)
    finally:
        os.close(fd)


def open_regular(parent: int, name: str) -> int:
    """Open a regular file in an open directory for reading; return the descriptor.

    Raises:
        OSError: it does not exist, or is not a regular file.
    """
    fd = os.open(name, os.O_RDONLY | _FILE, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not a regular file", name)
    return fd


def make_directory(parent: int, name: str, mode: int) -> str:
    """Make sure that a name in an open directory is a directory that can be written.

    What else has the name (a file, a link, a directory that we may not enter) is moved aside, not
    deleted: it may hold a user's work.

    Args:
        parent: descriptor of the directory above.
        name: one part of a path.
        mode: permissions, whatever the umask; what another user owns stays as it is.

    Returns:
        The name that what was in the way has now; empty if nothing was.

    Raises:
        OSError: it can neither be used nor be replaced.
    """
    moved = ""
    for _ in range(3):  # another process may put it back
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=parent)
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=parent)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EACCES):
                raise
            moved = _move_aside(parent, name)
            continue
        try:
            with contextlib.suppress(PermissionError):
                if stat.S_IMODE(os.fstat(fd).st_mode) != mode:
                    os.fchmod(fd, mode)
            # By effective user: the agent may have dropped rights.
            if os.access(".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True):
                return moved
        finally:
            os.close(fd)
        moved = _move_aside(parent, name)
    raise OSError(errno.EEXIST, "is replaced again and again", name)


def make_directories(root: Path, relative: str, mode: int) -> None:
    """Make sure that a directory, and each on the way, exists below the root.

    Args:
        root: a trusted directory.
        relative: path below it.
        mode: permissions of those that are made, whatever the umask.

    Raises:
        OSError: a part of the path is not a directory, is a link, or is ``..``.
    """
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in _parts(relative):
            try:
                os.mkdir(part, 0o700, dir_fd=fd)
            except FileExistsError:
                made = False
            else:
                made = True
            below = os.open(part, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
            if made:
                os.fchmod(fd, mode)
    finally:
        os.close(fd)


def set_mode(path: Path, mode: int) -> None:
    """Set the permissions of a directory that is none but itself.

    Raises:
        OSError: it is not a directory, or is a link to one.
    """
    fd = os.open(path, _DIRECTORY)
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _move_aside(parent: int, name: str) -> str:
    aside = f"{name}.moved-{secrets.token_hex(4)}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=parent)
    return aside


def _parts(relative: str) -> tuple[str, ...]:
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts:
        raise OSError(errno.EXDEV, "the path leaves its root", relative)
    return path.parts
