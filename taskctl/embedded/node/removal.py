"""Removing directories that containers have filled; blocking.

What lies there may be nested deeper than a process may open files, may have lost its permissions,
and may be replaced by links while it is removed. So everything is named relative to an open
directory, no link is followed, and subdirectories are moved to the top before they are emptied:
two are open at a time, however deep they were.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

_READ: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Some file systems leave out entries when others are removed while they are listed.
_LISTINGS: Final = 4


def remove_tree(path: Path) -> None:
    """Remove a directory and all below it, also where a container took permissions away.

    Raises:
        FileNotFoundError: there is none.
        OSError: it is not a directory, or something in it could not be removed.
    """
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        top = _open(parent, path.name)
        try:
            _Removal(top).run()
        finally:
            os.close(top)
        os.rmdir(path.name, dir_fd=parent)
    finally:
        os.close(parent)


class _Removal:
    def __init__(self, top: int) -> None:
        self._top = top
        self._left: list[str] = []  # directories moved to the top, to be emptied
        # Containers cannot have made such a name beforehand.
        self._prefix = f".removing-{secrets.token_hex(8)}-"
        self._moved = 0

    def run(self) -> None:
        """Empty the top."""
        self._empty(self._top)
        while self._left:
            name = self._left.pop()
            directory = _open(self._top, name)
            try:
                self._empty(directory)
            finally:
                os.close(directory)
            os.rmdir(name, dir_fd=self._top)

    def _empty(self, directory: int) -> None:
        for _ in range(_LISTINGS):
            if not self._empty_once(directory):
                return

    def _empty_once(self, directory: int) -> bool:
        """Remove or move what is listed; whether anything was."""
        found = False
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(self._prefix):
                    continue
                found = True
                with suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False):
                        self._move(directory, entry.name)
                    else:
                        os.unlink(entry.name, dir_fd=directory)
        return found

    def _move(self, directory: int, name: str) -> None:
        self._moved += 1
        aside = f"{self._prefix}{self._moved}"
        try:
            os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=self._top)
        except PermissionError:  # moving a directory writes its ".."
            os.close(_open(directory, name))
            os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=self._top)
        self._left.append(aside)


def _open(parent: int, name: str) -> int:
    """Open a directory in an open one, with the permissions to empty it."""
    fd = os.open(name, _LOOK, dir_fd=parent)
    try:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & stat.S_IRWXU != stat.S_IRWXU:
            # By descriptor, which may be a mere O_PATH: what has the name by now does not matter.
            os.chmod(f"/proc/self/fd/{fd}", mode | stat.S_IRWXU)
        return os.open(".", _READ, dir_fd=fd)
    finally:
        os.close(fd)
