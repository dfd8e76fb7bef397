"""Reading a history: the last line of each Task that is looked for. Blocking."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from taskctl.errors import ConfigError
from taskctl.history.files import is_cut_off, read_segments
from taskctl.history.lines import DELETED_TEXT, decode, noted_of
from taskctl.policy.view import parse_task

Made = TypeVar("Made")
_PROBLEMS: Final = 20
# Lines that a reader of the newest ones holds at once.
_HELD_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which Tasks are looked for; those that match all that is given.

    Attributes:
        namespace: where they were; empty: anywhere.
        name: of the Task; empty: any.
        root_uid: of the tree that they belong to, its root included; empty: any.
        uid: of the Task; empty: any.
        gone: only those whose deletion was recorded.
    """

    namespace: str = ""
    name: str = ""
    root_uid: str = ""
    uid: str = ""
    gone: bool = False

    @property
    def needles(self) -> tuple[bytes, ...]:
        """What stands in the lines of all that match; decoding the others would take long."""
        texts = (self.namespace, self.name, self.root_uid, self.uid)
        found = [f'"{text}"' for text in texts if text]
        # The line of a deletion is the last one of its Task.
        found += [DELETED_TEXT] if self.gone else []
        return tuple(text.encode() for text in found)


@dataclass(slots=True)
class Found:
    """What was read.

    Attributes:
        tasks: raw, as their last lines have them, in the order of these.
        problems: lines that cannot be read, in words; the first ones.
        lines: how many lines were looked at.
    """

    tasks: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lines: int = 0

    def complain(self, text: str) -> None:
        """Note a problem, unless there are many already."""
        if len(self.problems) < _PROBLEMS:
            self.problems.append(text)


@dataclass(slots=True)
class Newest(Generic[Made]):
    """The Tasks that went last.

    Attributes:
        found: what was made of each, the newest first.
        more: whether there are, or may be, older ones.
        problems: lines that cannot be read, in words; the first ones.
    """

    found: list[Made] = field(default_factory=list)
    more: bool = False
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that may be of a Task that is looked for.

    Attributes:
        data: as it stands there.
        where: file and number, for people.
    """

    data: bytes
    where: str


@dataclass(slots=True)
class NewestLines:
    """The last lines of a history that may be of Tasks that are looked for, the newest first.

    Attributes:
        more: set at the end: whether there are, or may be, older ones.
    """

    root: Path
    below: str
    wanted: Wanted
    limit: int
    more: bool = False

    def __iter__(self) -> Iterator[Line]:
        """Yield them; files that are older are not opened."""
        left = self.limit
        for name, lines in read_segments(self.root, self.below, newest_first=True):
            if self.more or left <= 0:
                self.more = True
                return
            kept, self.more = _last_matching(lines, self.wanted.needles, left)
            left -= len(kept)
            while kept:
                number, data = kept.pop()
                yield Line(data, f"{name}:{number}")


def matching_lines(root: Path, below: str, wanted: Wanted) -> Iterator[Line]:
    """Yield the lines that may be of Tasks that are looked for, the oldest first.

    Raises:
        FileNotFoundError: there is no history.
        OSError: it cannot be read.
    """
    needles = wanted.needles
    for name, lines in read_segments(root, below):
        for number, data in enumerate(lines, 1):
            if not is_cut_off(data) and all(needle in data for needle in needles):
                yield Line(data, f"{name}:{number}")


def read_history(root: Path, below: str, wanted: Wanted = Wanted()) -> Found:
    """Return the Tasks of a history.

    Args:
        root: a trusted directory.
        below: the history's directory, relative to it.
        wanted: which Tasks.

    Raises:
        FileNotFoundError: there is no history.
        OSError: it cannot be read.
    """
    reading = TasksOfLines(wanted)
    for line in matching_lines(root, below, wanted):
        reading.add(line)
    return reading.result()


class TasksOfLines:
    """Makes Tasks of lines that come one after the other, the oldest first.

    Args:
        wanted: which Tasks.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._found = Found()
        self._last: dict[str, dict[str, Any]] = {}

    def add(self, line: Line) -> None:
        """Take in a line."""
        self._found.lines += 1
        try:
            task = decode(line.data)
        except ConfigError as error:
            self._found.complain(f"{line.where}: {error}")
            return
        self._last.pop(task["metadata"]["uid"], None)
        self._last[task["metadata"]["uid"]] = task

    def result(self) -> Found:
        """Return the Tasks as their last lines have them."""
        self._found.tasks = [task for task in self._last.values() if matches(task, self._wanted)]
        return self._found


def read_newest(
    root: Path, below: str, wanted: Wanted, limit: int, make: Callable[[dict[str, Any]], Made]
) -> Newest[Made]:
    """Return the Tasks whose deletion was recorded last, without reading what is older.

    Args:
        root: a trusted directory.
        below: the history's directory, relative to it.
        wanted: which Tasks; ``gone`` must be set, as a deletion is the last line of its Task.
        limit: how many at most.
        make: what to keep of each Task: a whole one takes a lot of memory.

    Raises:
        FileNotFoundError: there is no history.
        OSError: it cannot be read.
    """
    lines, reading = NewestLines(root, below, wanted, limit), NewestOfLines(wanted, make)
    for line in lines:
        reading.add(line)
    return reading.result(more=lines.more)


class NewestOfLines(Generic[Made]):
    """Makes something of each Task of lines that come one after the other, the newest first.

    Args:
        wanted: which Tasks; only those that are gone.
        make: what to keep of each.
    """

    def __init__(self, wanted: Wanted, make: Callable[[dict[str, Any]], Made]) -> None:
        if not wanted.gone:
            raise ValueError("wanted.gone: only of what is gone is the last line known to be that")
        self._wanted = wanted
        self._make = make
        self._found: list[Made] = []
        self._complaints = Found()
        self._seen: set[str] = set()

    def add(self, line: Line) -> None:
        """Take in a line."""
        try:
            task = decode(line.data)
        except ConfigError as error:
            self._complaints.complain(f"{line.where}: {error}")
            return
        uid = task["metadata"]["uid"]
        if uid not in self._seen and matches(task, self._wanted):
            self._seen.add(uid)
            self._found.append(self._make(task))

    def result(self, *, more: bool) -> Newest[Made]:
        """Return what was made."""
        return Newest(self._found, more, self._complaints.problems)


def _last_matching(
    lines: Iterator[bytes], needles: tuple[bytes, ...], limit: int
) -> tuple[deque[tuple[int, bytes]], bool]:
    """Return the last lines of a file that hold all needles, and whether others were left out."""
    kept: deque[tuple[int, bytes]] = deque()
    held, left_out = 0, False
    for number, line in enumerate(lines, 1):
        if is_cut_off(line) or not all(needle in line for needle in needles):
            continue
        kept.append((number, line))
        held += len(line)
        while len(kept) > limit or (held > _HELD_BYTES and len(kept) > 1):
            held -= len(kept.popleft()[1])
            left_out = True
    return kept, left_out


def matches(task: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether a Task that was read from a line is looked for."""
    view = parse_task(task)
    return (
        wanted.namespace in ("", view.namespace)
        and wanted.name in ("", view.name)
        and wanted.root_uid in ("", view.root_uid)
        and wanted.uid in ("", view.uid)
        and (not wanted.gone or noted_of(task).deleted)
    )
