"""The files of a history: numbered, appended only, the oldest deleted first. Blocking.

A crash leaves a cut last line at worst: readers leave it out, and the next writer takes it away.
The directory may lie where hostile code writes (:mod:`taskctl.beneath`): no link is followed, and a
file that another program has cut or removed is noticed before the next line is written to it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from taskctl import beneath
from taskctl.clock import Clock
from taskctl.history.lines import MAX_LINE_BYTES, is_whole

DEFAULT_MAX_MB: Final = 256
DEFAULT_MAX_AGE_S: Final = 30 * 86_400
LOCK_FILE: Final = "lock"
# The directory in the data directory of a local stack.
LOCAL_DIRECTORY: Final = "history"
# Of the whole size and age: what is deleted at once.
_SHARES: Final = 16
# The wall clock must have been steady for so long before anything is deleted for its age.
STEADY_S: Final = 3600.0
# What the wall clock may gain or lose between two looks at it, which are ten minutes apart.
_SLEW_S: Final = 30.0
_MIN_SEGMENT_BYTES: Final = 16 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_NAME: Final = re.compile(r"tasks-([0-9]{8})\.jsonl")
_APPEND: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """How much is kept.

    Attributes:
        max_bytes: of all files together.
        max_age_s: since the last line of a file, in seconds; 0: any.
    """

    max_bytes: int = DEFAULT_MAX_MB * 1_000_000
    max_age_s: float = DEFAULT_MAX_AGE_S

    @property
    def segment_bytes(self) -> int:
        """From there on another file is begun."""
        return max(self.max_bytes // _SHARES, _MIN_SEGMENT_BYTES)


@dataclass(frozen=True, slots=True)
class Segment:
    """One file.

    Attributes:
        number: later ones have higher numbers.
        size: in bytes.
        modified_s: when the last line was written, in seconds since the epoch.
    """

    number: int
    size: int
    modified_s: float

    @property
    def name(self) -> str:
        """Of the file."""
        return segment_name(self.number)


class Steadiness:
    """For how long the wall clock has gone as fast as the monotonic one.

    Args:
        clock: source of time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._between_s = self._difference_s()
        self._since_s = clock.monotonic_s()

    def steady_s(self) -> float:
        """Return the seconds since the wall clock was last set, as far as we know."""
        between_s = self._difference_s()
        if abs(between_s - self._between_s) > _SLEW_S:
            self._since_s = self._clock.monotonic_s()
        # A clock that is slewed to the right time drifts, but does not jump.
        self._between_s = between_s
        return self._clock.monotonic_s() - self._since_s

    def _difference_s(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic_s()


class HistoryFiles:
    """The one writer of a history.

    Args:
        root: a trusted directory.
        below: the history's directory, relative to it; made if it is not there.
        limits: how much is kept.
        clock: source of time.

    Raises:
        BlockingIOError: another process writes to it.
        OSError: it cannot be written.
    """

    def __init__(self, root: Path, below: str, limits: HistoryLimits, clock: Clock) -> None:
        self.path = root / below
        self._root = root
        self._below = below
        self._limits = limits
        self._clock = clock
        # A recorder that is cancelled while a thread writes must not close the file under it.
        self._guard = threading.Lock()
        self._steadiness = Steadiness(clock)
        self._fd = self._lock_fd = self._directory = -1
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        beneath.make_directories(self._root, self._below, 0o700)
        with beneath.directory(self._root, self._below) as fd:
            self._directory = os.dup(fd)
        self._lock_fd = _open_regular(LOCK_FILE, self._directory)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = list_segments(self._directory)
        self._number = found[-1].number if found else 1
        self._begin()

    def _begin(self) -> None:
        """Open the file with the present number, without a line that was cut off."""
        fd = _open_regular(segment_name(self._number), self._directory)
        try:
            self._size = mend(fd)
        except BaseException:
            os.close(fd)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._begun_s = self._now_s()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        with self._guard:
            for fd in (self._fd, self._lock_fd, self._directory):
                if fd >= 0:
                    os.close(fd)
            self._fd = self._lock_fd = self._directory = -1

    def append(self, lines: Sequence[bytes]) -> None:
        """Write whole lines to the disk, all of them or none.

        Raises:
            OSError: that failed; ESTALE: another program has changed the file.
        """
        data = b"".join(lines)
        with self._guard:
            self._check_own()
            if self._size and self._size + len(data) > self._limits.segment_bytes:
                self._rotate()
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._fd, view) :]
                os.fdatasync(self._fd)
            except OSError:
                # Of a full disk: a part of a line would be in the way of the next one.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._size)
                raise
            self._size += len(data)

    def prune(self) -> None:
        """Delete what is too old or too much.

        Raises:
            OSError: that failed.
        """
        with self._guard:
            self._check_own()
            age_s = self._limits.max_age_s
            if age_s and self._size and self._now_s() - self._begun_s > age_s / _SHARES:
                self._rotate()
            else:
                self._delete(self._limits.max_bytes)

    def segments(self) -> Iterator[Iterator[bytes]]:
        """Yield the lines of each file, the oldest first."""
        for segment in list_segments(self._directory):
            yield _lines_of(self._directory, segment.name)

    def _check_own(self) -> None:
        if self._fd < 0:
            raise OSError(errno.EBADF, "is closed")
        status = os.fstat(self._fd)
        if status.st_nlink == 0 or status.st_size != self._size:
            raise OSError(errno.ESTALE, "was changed by another program")

    def _rotate(self) -> None:
        self._number += 1
        self._begin()
        # So that all together stay below the limit until the next time.
        self._delete(self._limits.max_bytes - self._limits.segment_bytes)

    def _delete(self, max_bytes: int) -> None:
        found = list_segments(self._directory)
        total, now_s = sum(one.size for one in found), self._now_s()
        max_age_s = self._limits.max_age_s
        # A wall clock that is wrong, as before a machine has asked for the time, must not make
        # everything old at once.
        ages = max_age_s > 0 and self._steadiness.steady_s() >= min(max_age_s, STEADY_S)
        for segment in found:
            old = ages and now_s - segment.modified_s > max_age_s
            if segment.number == self._number or not (old or total > max_bytes):
                continue
            with contextlib.suppress(FileNotFoundError):
                os.unlink(segment.name, dir_fd=self._directory)
            total -= segment.size

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def segment_name(number: int) -> str:
    """Return the name of the file with a number."""
    return f"tasks-{number:08}.jsonl"


def list_segments(directory: int) -> list[Segment]:
    """Return the files in an open directory, the oldest first."""
    found = []
    for name in os.listdir(directory):
        if match := _NAME.fullmatch(name):
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found.append(Segment(int(match[1]), status.st_size, status.st_mtime))
    return sorted(found, key=lambda one: one.number)


def read_segments(
    root: Path, below: str, *, newest_first: bool = False
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield name and lines of each file of a history that another process may be writing to.

    Args:
        root: a trusted directory.
        below: the history's directory, relative to it.
        newest_first: begin with the file that was begun last; its lines stay as they stand.

    Raises:
        FileNotFoundError: there is no history.
        OSError: it cannot be read.
    """
    with beneath.directory(root, below) as directory:
        for segment in sorted(
            list_segments(directory), key=lambda one: one.number, reverse=newest_first
        ):
            yield segment.name, _lines_of(directory, segment.name)


def _lines_of(directory: int, name: str) -> Iterator[bytes]:
    try:
        fd = beneath.open_regular(directory, name)
    except FileNotFoundError:  # deleted since, as the oldest
        return
    with os.fdopen(fd, "rb") as file:
        yield from iter(lambda: file.readline(MAX_LINE_BYTES + 1), b"")


def is_cut_off(line: bytes) -> bool:
    """Whether a line is the first part of one that is being written, or never was to its end."""
    return not line.endswith(b"\n") and not is_whole(line)


def mend(fd: int) -> int:
    """Take a last line that was cut off away from an open file; return its size then."""
    size = os.fstat(fd).st_size
    whole = _end_of_lines(fd, size)
    if whole < size:
        os.ftruncate(fd, whole)
    return whole


def _end_of_lines(fd: int, size: int) -> int:
    """Return where the last whole line ends; the file's end where that is nowhere near."""
    begin = size
    while begin > max(0, size - MAX_LINE_BYTES):
        begin, end = max(0, begin - _CHUNK_BYTES), begin
        found = os.pread(fd, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
    return 0 if begin == 0 else size


def _open_regular(name: str, directory: int) -> int:
    # Commands and environments are not for everybody.
    fd = os.open(name, _APPEND, 0o600, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not a regular file", name)
    return fd
