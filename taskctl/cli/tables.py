"""Tables of tasks, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taskctl.api.states import TaskState
from taskctl.cli.durations import short_age
from taskctl.cli.output import Output, Style, echo, print_objects, table, wants_colour
from taskctl.clock import SystemClock, parse_time
from taskctl.outside.outcome import cause_of, state_of

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


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How to show tasks.

    Attributes:
        now: for the ages.
        wide: with root, depth and message.
        namespaces: with the namespace in front.
        colour: whether to colour the states.
    """

    now: datetime
    wide: bool = False
    namespaces: bool = False
    colour: bool = False


def task_table(tasks: Sequence[Mapping[str, Any]], options: TableOptions) -> str:
    """Return the table of raw Tasks, in the order given."""
    headings = ["name", "state", "reason", "cluster", "attempt", "exit", "pod", "age"]
    if options.namespaces:
        headings.insert(0, "namespace")
    if options.wide:
        headings += ["root", "depth", "message"]
    rows, styles = [], []
    for task in tasks:
        row = _task_row(task, options)
        rows.append([row[heading] for heading in headings])
        state_style = STATE_STYLES.get(row["state"], Style.PLAIN)
        styles.append([state_style if h == "state" else Style.PLAIN for h in headings])
    return table(headings, rows, styles=styles, colour=options.colour)


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
        "cluster": spec.get("clusterName", _NONE),
        "attempt": _text(status.get("attempt")),
        "exit": _text(status.get("exitCode")),
        "pod": status.get("podName") or _NONE,
        "age": age(task, options.now),
        "root": status.get("root") or _NONE,
        "depth": _text(status.get("depth")),
        "message": message or _NONE,
    }


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
