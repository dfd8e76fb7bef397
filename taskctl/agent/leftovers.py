"""Finds and removes files in the workspace that are left over; all functions block.

Tasks write there and are hostile: nothing is followed but directories that were opened as such,
part by part, and each pass has a bound.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskctl import beneath
from taskctl.constants import EXITS_DIR, LOGS_DIR, OBJECTS_DIR, TASKS_DIR
from taskctl.policy.leftovers import SWEPT_PREFIX, Leftover, LeftoverKind, age_s, recognize

# A directory is walked that deep; what lies deeper is moved up and walked on its own.
_MAX_DEPTH: Final = 32
_TREES: Final = (LeftoverKind.TASK_DIR, LeftoverKind.LOG_SEGMENTS, LeftoverKind.SWEPT)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Finder:
    """Goes through the files that taskctl keeps in a workspace, a part at each call.

    Args:
        root: where the workspace is mounted.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rest: Iterator[Leftover | None] | None = None

    def find(self, max_entries: int, now_s: float) -> list[Leftover]:
        """Return what is found among the next entries; after the last one it begins again.

        Args:
            max_entries: how many names to look at.
            now_s: seconds since the epoch.
        """
        if self._rest is None:
            self._rest = self._walk()
        looked = list(itertools.islice(self._rest, max_entries))
        if len(looked) < max_entries:
            self._rest = None
        return [_aged(item, now_s) for item in looked if item is not None]

    def _walk(self) -> Iterator[Leftover | None]:
        for directory in (LOGS_DIR, EXITS_DIR, TASKS_DIR):
            yield from self._entries(directory)
        for number in range(256):
            yield from self._entries(f"{OBJECTS_DIR}/{number:02x}")

    def _entries(self, directory: str) -> Iterator[Leftover | None]:
        with (
            contextlib.suppress(OSError),
            beneath.directory(self._root, directory) as fd,
            os.scandir(fd) as entries,
        ):
            for entry in entries:
                yield _leftover(fd, directory, entry.name)


def _leftover(fd: int, directory: str, name: str) -> Leftover | None:
    what = recognize(directory, name)
    if what is None:
        return None
    kind, uid = what
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return None
    if (kind in _TREES) != stat.S_ISDIR(status.st_mode):
        return None
    # The age is not known yet: the time of the entry's change is kept in its place.
    return Leftover(kind, directory, name, uid, status.st_mtime_ns, status.st_ctime_ns / 1e9)


def _aged(file: Leftover, now_s: float) -> Leftover:
    age = age_s(now_s, file.modified_ns / 1e9, file.age_s)
    return Leftover(file.kind, file.directory, file.name, file.uid, file.modified_ns, age)


def remove(root: Path, file: Leftover, budget: int) -> int:
    """Remove a file, or as much of a directory as the budget allows.

    Args:
        root: where the workspace is mounted.
        file: what is left over.
        budget: how many entries may be removed.

    Returns:
        How many entries were removed.

    Raises:
        OSError: it cannot be removed.
    """
    with beneath.directory(root, file.directory) as fd:
        match file.kind:
            case LeftoverKind.OBJECT:
                return _remove_value(fd, file)
            case kind if kind in _TREES:
                return _remove_tree(fd, file.name, budget)
        try:
            os.unlink(file.name, dir_fd=fd)
        except FileNotFoundError:
            return 0
        return 1


def _remove_value(fd: int, file: Leftover) -> int:
    """Remove a large value, unless a task has come to use it meanwhile.

    Who finds a value there renews its time, then looks whether it is still there. So the name is
    taken away first; if the time is a new one then, it is given back.
    """
    aside = f".{file.name}.{secrets.token_hex(4)}.tmp"
    try:
        os.rename(file.name, aside, src_dir_fd=fd, dst_dir_fd=fd)
    except FileNotFoundError:
        return 0
    status = os.stat(aside, dir_fd=fd, follow_symlinks=False)
    if status.st_mtime_ns != file.modified_ns:
        os.rename(aside, file.name, src_dir_fd=fd, dst_dir_fd=fd)
        return 0
    os.unlink(aside, dir_fd=fd)
    return 1


# --- directories of tasks -----------------------------------------------------------------


def _remove_tree(above: int, name: str, budget: int) -> int:
    walk = _TreeRemoval(above, budget)
    walk.remove(above, name, depth=0)
    return walk.removed


class _TreeRemoval:
    """Removes a directory with all that is in it, within a number of entries.

    Args:
        top: descriptor of the directory to which parts that lie too deep are moved.
        budget: how many entries may be removed.
    """

    def __init__(self, top: int, budget: int) -> None:
        self._top = top
        self._budget = budget
        self._device = os.fstat(top).st_dev
        self.removed = 0

    def remove(self, above: int, name: str, depth: int) -> None:
        """Remove a directory; it stays where the budget is used up.

        Raises:
            OSError: something in it cannot be removed.
        """
        with _opened(above, name) as fd:
            if fd is None or os.fstat(fd).st_dev != self._device:
                return  # gone, or a volume of its own
            with os.scandir(fd) as entries:
                for entry in entries:
                    if self.removed >= self._budget:
                        return
                    self._remove_entry(fd, entry.name, depth)
        if self.removed < self._budget:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(name, dir_fd=above)
                self.removed += 1

    def _remove_entry(self, fd: int, name: str, depth: int) -> None:
        try:
            os.unlink(name, dir_fd=fd)
            self.removed += 1
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError) as error:
            if not _is_directory(fd, name):
                raise error
            if depth < _MAX_DEPTH:
                self.remove(fd, name, depth + 1)
                return
            os.rename(
                name, f"{SWEPT_PREFIX}{secrets.token_hex(8)}", src_dir_fd=fd, dst_dir_fd=self._top
            )
            self.removed += 1


def _is_directory(fd: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _opened(above: int, name: str) -> Iterator[int | None]:
    """Open a directory, also one that its owner has locked (mode 0); None: it is none (any more).

    Raises:
        OSError: it belongs to another process, which has locked it.
    """
    try:
        fd = os.open(name, _DIRECTORY | os.O_NONBLOCK, dir_fd=above)
        if os.fstat(fd).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            with contextlib.suppress(OSError):
                os.fchmod(fd, stat.S_IRWXU)
    except PermissionError:
        fd = _unlock(above, name)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _unlock(above: int, name: str) -> int:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    path = os.open(name, flags, dir_fd=above)
    try:
        # By its descriptor: the name could be another's by now.
        os.chmod(f"/proc/self/fd/{path}", stat.S_IRWXU)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=path)
    finally:
        os.close(path)
