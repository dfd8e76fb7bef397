"""The file of ``taskctl export --follow``: a line for each transition of a Task.

Appended only, so that a crash leaves a cut last line at worst; that one is left out by readers and
taken away by the next writer. Of a full file one older one is kept, and the new one begins with all
Tasks as they are, so it can be read alone.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from taskctl.cli.exits import CliError
from taskctl.cli.taskfile import read_tasks, write_tasks
from taskctl.history.files import mend

_OLDER: Final = ".1"


class TaskLog:
    """A file that Tasks are appended to. Blocking.

    Args:
        path: of the file.
        max_bytes: from there on another one is begun.

    Raises:
        CliError: it cannot be written, or another process writes to it.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._fd = -1
        try:
            self._fd, self._size = _open(path)
        except OSError as error:
            raise _cannot(path, error) from error
        self._limit = max(max_bytes, self._size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._fd)

    def recorded(self) -> list[dict[str, Any]]:
        """Return the Tasks that the file has."""
        return read_tasks(self._path)

    def append(
        self, changed: Sequence[Mapping[str, Any]], existing: Iterable[Mapping[str, Any]]
    ) -> None:
        """Write Tasks to the disk.

        Args:
            changed: those that get a line.
            existing: all Tasks as they are, for a file that is begun.

        Raises:
            CliError: it cannot be written.
        """
        data = write_tasks(changed).encode()
        try:
            if self._size + len(data) > self._limit:
                there = {task["metadata"]["uid"]: task for task in (*changed, *existing)}
                data = write_tasks(there.values()).encode()
                self._rotate()
                # Where all Tasks alone take that much, they are not written again at each step.
                self._limit = max(self._max_bytes, 2 * len(data))
            view = memoryview(data)
            while view:
                view = view[os.write(self._fd, view) :]
            os.fdatasync(self._fd)
        except OSError as error:
            raise _cannot(self._path, error) from error
        self._size += len(data)

    def _rotate(self) -> None:
        self._path.replace(self._path.with_name(self._path.name + _OLDER))
        fd, self._size = _open(self._path)
        os.close(self._fd)
        self._fd = fd


def _cannot(path: Path, error: OSError) -> CliError:
    if isinstance(error, BlockingIOError):
        return CliError(f"{path}: another taskctl export --follow writes to it")
    return CliError(f"{path} cannot be written: {error.strerror or error}")


def _open(path: Path) -> tuple[int, int]:
    """Return a descriptor for appending, and the file's size without a line that was cut off."""
    # Commands and environments are not for everybody.
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = mend(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd, size
