"""Reading a history: the last line of each Task that is looked for. Blocking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from taskctl.errors import ConfigError
from taskctl.history.files import is_cut_off, read_segments
from taskctl.history.lines import DELETED_TEXT, decode, noted_of
from taskctl.policy.view import parse_task

_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which Tasks are looked for; those that match all that is given.

    Attributes:
        namespace: where they were; empty: anywhere.
        name: of the Task; empty: any.
        root_uid: of the tree that they belong to, its root included; empty: any.
        gone: only those whose deletion was recorded.
    """

    namespace: str = ""
    name: str = ""
    root_uid: str = ""
    gone: bool = False

    @property
    def needles(self) -> tuple[bytes, ...]:
        """What stands in the lines of all that match; decoding the others would take long."""
        found = [f'"{text}"' for text in (self.namespace, self.name, self.root_uid) if text]
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


def matches(task: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether a Task that was read from a line is looked for."""
    view = parse_task(task)
    return (
        wanted.namespace in ("", view.namespace)
        and wanted.name in ("", view.name)
        and wanted.root_uid in ("", view.root_uid)
        and (not wanted.gone or noted_of(task).deleted)
    )
