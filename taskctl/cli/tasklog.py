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
from types import TracebackType
from typing import Any, Final, Self

from taskctl.cli.exits import CliError
from taskctl.cli.taskfile import MAX_LINE_BYTES, read_tasks, write_tasks

_OLDER: Final = ".1"
_CHUNK_BYTES: Final = 64 * 1024


def transition_of(task: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what must change for a Task to get another line; its progress is left out."""
    status, metadata = task.get("status") or {}, task["metadata"]
    conditions = sorted(
        (str(one.get("type")), str(one.get("status"))) for one in status.get("conditions") or ()
    )
    return (
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        status.get("state"),
        status.get("reason"),
        status.get("attempt"),
        status.get("exitCode"),
        status.get("phase"),
        tuple(conditions),
    )


class Transitions:
    """Which Tasks have got which line; as many as there are Tasks.

    Args:
        recorded: Tasks as their last lines have them.
    """

    def __init__(self, recorded: Iterable[Mapping[str, Any]] = ()) -> None:
        self._last = {task["metadata"]["uid"]: transition_of(task) for task in recorded}
        self.tasks: dict[str, Mapping[str, Any]] = {}

    def update(
        self, tasks: Sequence[Mapping[str, Any]], *, deleted: bool, complete: bool
    ) -> list[Mapping[str, Any]]:
        """Take notice of Tasks, and return those that get a line.

        Args:
            tasks: as they are now.
            deleted: they are gone.
            complete: there are no others.
        """
        if complete:
            self.tasks.clear()
        changed = []
        for task in tasks:
            uid = task["metadata"]["uid"]
            now = transition_of(task)
            if self._last.get(uid) != now:
                changed.append(task)
                self._last[uid] = now
            self.tasks[uid] = task
        if deleted:
            for task in tasks:
                self.tasks.pop(task["metadata"]["uid"], None)
                self._last.pop(task["metadata"]["uid"], None)
        if complete:
            self._last = {uid: last for uid, last in self._last.items() if uid in self.tasks}
        return changed


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        size = os.fstat(fd).st_size
        whole = _end_of_lines(fd, size)
        if whole < size:
            os.ftruncate(fd, whole)
    except BaseException:
        os.close(fd)
        raise
    return fd, whole


def _end_of_lines(fd: int, size: int) -> int:
    """Return where the last whole line ends; the file's end where that is nowhere near."""
    begin = size
    while begin > max(0, size - MAX_LINE_BYTES):
        begin, end = max(0, begin - _CHUNK_BYTES), begin
        found = os.pread(fd, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
    return 0 if begin == 0 else size
