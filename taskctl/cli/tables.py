"""Tables of tasks, as text."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskctl.api.states import TaskState
from taskctl.cli.durations import precise, run_s, short_age
from taskctl.cli.output import COLUMN_GAP, Output, Style, echo, print_objects, table, wants_colour
from taskctl.cli.terminal import columns, one_line
from taskctl.clock import SystemClock, parse_time
from taskctl.outside.outcome import cause_of, state_of
from taskctl.policy.labels import label_of
from taskctl.policy.runcluster import cluster_of_task
from taskctl.policy.view import parse_task

STATE_STYLES: Mapping[str, Style] = {
    TaskState.PENDING: Style.WAITING,
    TaskState.SCHEDULED: Style.WAITING,
    TaskState.RUNNING: Style.ACTIVE,
    TaskState.SUCCEEDED: Style.GOOD,
    TaskState.FAILED: Style.BAD,
    TaskState.CANCELLED: Style.DIM,
    TaskState.SKIPPED: Style.DIM,
}
MESSAGE_WIDTH = 80
_NONE = "-"
# Of a table that is too wide, these columns go first.
_LEAST_FIRST = ("attempt", "cluster", "exit", "pod", "reason")
_NAME_MIN = 16
_NAME_END = 11  # what taskctl puts behind the name of a root: a dash and a hash


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How to show tasks.

    Attributes:
        now: for the ages.
        wide: with root, depth and message.
        namespaces: with the namespace in front.
        colour: whether to colour the states.
        width: of the terminal; 0 leaves nothing out.
    """

    now: datetime
    wide: bool = False
    namespaces: bool = False
    colour: bool = False
    width: int = 0


def task_table(tasks: Sequence[Mapping[str, Any]], options: TableOptions) -> str:
    """Return the table of raw Tasks, in the order given.

    Where it is wider than the terminal, columns are left out that say least, then the middle of
    long names.
    """
    headings = ["name", "state", "reason", "cluster", "attempt", "exit", "pod", "duration", "age"]
    if options.namespaces:
        headings.insert(0, "namespace")
    if options.wide:
        headings += ["runs", "root", "depth", "message"]
    rows = [_task_row(task, options) for task in tasks]
    if options.width and not options.wide:
        _fit(headings, rows, options.width)
    cells, styles = [], []
    for row in rows:
        cells.append([row[heading] for heading in headings])
        state_style = STATE_STYLES.get(row["state"], Style.PLAIN)
        styles.append([state_style if h == "state" else Style.PLAIN for h in headings])
    return table(headings, cells, styles=styles, colour=options.colour)


def _fit(headings: list[str], rows: Sequence[dict[str, str]], width: int) -> None:
    """Take out of ``headings`` what makes the table too wide, and shorten names if need be."""
    for heading in _LEAST_FIRST:
        if _width(headings, rows) <= width:
            return
        headings.remove(heading)
    over = _width(headings, rows) - width
    if over > 0:
        longest = max(columns(one_line(row["name"])) for row in rows)
        for row in rows:
            row["name"] = _without_middle(one_line(row["name"]), max(_NAME_MIN, longest - over))


def _width(headings: Sequence[str], rows: Sequence[Mapping[str, str]]) -> int:
    widths = [
        max([len(heading), *(columns(one_line(row[heading])) for row in rows)])
        for heading in headings
    ]
    return sum(widths) + COLUMN_GAP * (len(widths) - 1)


def _without_middle(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    end = min(_NAME_END, max_chars // 2)
    return f"{text[: max_chars - end - 1]}…{text[-end:]}"


def print_tasks(
    tasks: Sequence[Mapping[str, Any]], output: Output, *, single: bool, namespaces: bool = False
) -> None:
    """Print raw Tasks in the format asked for.

    Args:
        tasks: in the order to show.
        output: the format.
        single: one was asked for by name: no list around it.
        namespaces: a table has the namespace in front.
    """
    if output not in (Output.TABLE, Output.WIDE):
        print_objects(tasks, output, single=single)
        return
    options = TableOptions(
        now=SystemClock().now(),
        wide=output is Output.WIDE,
        namespaces=namespaces,
        colour=wants_colour(),
        width=shutil.get_terminal_size().columns if sys.stdout.isatty() else 0,
    )
    echo(task_table(tasks, options))


def _task_row(task: Mapping[str, Any], options: TableOptions) -> dict[str, str]:
    metadata, spec = task["metadata"], task.get("spec", {})
    status = task.get("status") or {}
    message = cause_of(status)
    if len(message) > MESSAGE_WIDTH:
        message = message[: MESSAGE_WIDTH - 1] + "…"
    return {
        "namespace": metadata.get("namespace", _NONE),
        "name": metadata["name"],
        "state": state_of(task),
        "reason": status.get("reason") or _NONE,
        "cluster": cluster_of_task(task) or _NONE,
        "attempt": _text(status.get("attempt")),
        "exit": _text(status.get("exitCode")),
        "pod": status.get("podName") or _NONE,
        "duration": _duration(task, options.now),
        "age": age(task, options.now),
        "runs": label_of(spec.get("command") or ()) or _NONE,
        "root": status.get("root") or _NONE,
        "depth": _text(status.get("depth")),
        "message": message or _NONE,
    }


def _duration(task: Mapping[str, Any], now: datetime) -> str:
    """Return how long the latest attempt has run, from its start to its end."""
    seconds = run_s(parse_task(task), now)
    return _NONE if seconds is None else precise(seconds).replace(" ", "")


def age(obj: Mapping[str, Any], now: datetime) -> str:
    """Return how long ago an object was created."""
    created = obj["metadata"].get("creationTimestamp")
    return short_age((now - parse_time(created)).total_seconds()) if created else _NONE


def by_creation(tasks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the tasks oldest first; of the same second in natural order of their names."""
    return sorted(
        tasks,
        key=lambda task: (
            task["metadata"].get("creationTimestamp") or "",
            natural(task["metadata"]["name"]),
        ),
    )


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key in which task-10 comes after task-9."""
    import re

    return tuple(
        (0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part)
        for part in re.split(r"([0-9]+)", name)
        if part
    )


def _text(value: Any) -> str:
    return _NONE if value is None else str(value)
