"""Reading a history: the last line of each Task that is looked for. Blocking."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast

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
    found, needles = Found(), wanted.needles
    last: dict[str, dict[str, Any]] = {}
    for name, lines in read_segments(root, below):
        for number, line in enumerate(lines, 1):
            found.lines += 1
            if is_cut_off(line) or not all(needle in line for needle in needles):
                continue
            try:
                task = decode(line)
            except ConfigError as error:
                found.complain(f"{name}:{number}: {error}")
                continue
            last.pop(task["metadata"]["uid"], None)
            last[task["metadata"]["uid"]] = task
    found.tasks = [task for task in last.values() if matches(task, wanted)]
    return found


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
    if not wanted.gone:
        raise ValueError("wanted.gone: only of what is gone is the last line known to be that")
    found, complaints = Newest[Made](), Found()
    seen: set[str] = set()
    for name, lines in read_segments(root, below, newest_first=True):
        if found.more or len(found.found) >= limit:
            found.more = True
            break
        kept, found.more = _last_matching(lines, wanted.needles, limit - len(found.found))
        for number, line in reversed(kept):
            try:
                task = decode(line)
            except ConfigError as error:
                complaints.complain(f"{name}:{number}: {error}")
                continue
            uid = cast("str", task["metadata"]["uid"])
            if uid not in seen and matches(task, wanted):
                seen.add(uid)
                found.found.append(make(task))
    found.problems = complaints.problems
    return found


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
