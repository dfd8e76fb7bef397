"""Tasks as trees, with counts and latencies. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

from taskctl.api.states import TaskState
from taskctl.cli.durations import between_s, moment, percentile
from taskctl.cli.tables import natural
from taskctl.policy.view import TaskView, parse_task, time_or_none


@dataclass(slots=True)
class TreeNode:
    """A Task and the tasks it made.

    Attributes:
        view: the Task.
        children: in the order they were made.
        counts: states of everything below, this Task not included.
    """

    view: TaskView
    children: list[TreeNode] = field(default_factory=list)
    counts: Counter[TaskState] = field(default_factory=Counter)

    @property
    def below(self) -> int:
        """How many tasks there are below."""
        return self.counts.total()

    @property
    def whole(self) -> Counter[TaskState]:
        """States of everything below, this Task included."""
        return self.counts + Counter({self.view.state: 1})


@dataclass(frozen=True, slots=True)
class Stage:
    """Where time went, over many tasks.

    Attributes:
        name: from what to what.
        p50_s: median, seconds.
        p99_s: 99th percentile, seconds.
        sum_s: seconds in all.
        count: tasks that have both times.
        coarse: the starts are known to the second only, so values may be up to 1 s too long.
    """

    name: str
    p50_s: float
    p99_s: float
    sum_s: float
    count: int
    coarse: bool = False


def build_forest(tasks: Iterable[Mapping[str, Any]]) -> list[TreeNode]:
    """Return the roots of raw Tasks, each with what grew from it.

    A Task whose parent is not among them becomes a root here, so nothing is lost.
    """
    nodes = {view.uid: TreeNode(view) for view in map(parse_task, tasks)}
    roots = []
    for node in _in_order(nodes.values()):
        parent = nodes.get(node.view.parent_uid)
        if parent is None or parent is node:
            roots.append(node)
        else:
            parent.children.append(node)
    for node in _children_first(roots):
        counts = node.counts
        for child in node.children:
            counts[child.view.state] += 1
            for state, count in child.counts.items():
                counts[state] += count
    return roots


def _in_order(nodes: Iterable[TreeNode]) -> Iterator[TreeNode]:
    """Yield nodes in the order of their creation; those of one moment in that of their names."""
    for _, group in groupby(sorted(nodes, key=_created_text), key=_created_text):
        same = list(group)
        # Taking a name apart costs more than all else here, and few tasks share a microsecond.
        yield from same if len(same) == 1 else sorted(same, key=lambda one: natural(one.view.name))


def _created_text(node: TreeNode) -> str:
    return (node.view.status.get("times") or {}).get("created") or node.view.created


def _children_first(roots: Sequence[TreeNode]) -> list[TreeNode]:
    """Return every node after all those below it. Trees are deep: no recursion."""
    order, stack = [], list(roots)
    while stack:
        node = stack.pop()
        order.append(node)
        stack += node.children
    return order[::-1]


def all_views(roots: Sequence[TreeNode]) -> list[TaskView]:
    """Return every Task of the forest."""
    return [node.view for node in _children_first(roots)]


_STAGES = (
    ("created → placed", "created", "placed"),
    ("placed → container", "placed", "started"),
    ("container → user code", "started", "userCode"),
    ("created → user code", "created", "userCode"),
    ("user code", "userCode", "exited"),
    ("exited → recorded", "exited", "observed"),
)


def latency_stages(views: Sequence[TaskView]) -> list[Stage]:
    """Return the latency receipt of tasks.

    Only tasks whose first attempt was their last count: of the others the creation lies
    before attempts whose times are no longer known.
    """
    stages = []
    receipts = [_moments(view) for view in views if view.attempt <= 1]
    for name, start, end in _STAGES:
        exact: list[float] = []
        coarse: list[float] = []
        for receipt in receipts:
            since, until = receipt.get(start), receipt.get(end)
            if since is not None and until is not None:
                # creationTimestamp has no fraction. One in a million precise times has none either.
                values = exact if since.microsecond else coarse
                values.append(max(0.0, (until - since).total_seconds()))
        # A value that may be a second too long says nothing beside those that are exact.
        used = sorted(exact or coarse)
        if used:
            p50_s, p99_s = percentile(used, 0.5), percentile(used, 0.99)
            stages.append(Stage(name, p50_s, p99_s, sum(used), len(used), not exact))
    return stages


def _moments(view: TaskView) -> dict[str, datetime]:
    """Return what is known of ``status.times``."""
    moments = {}
    for name, text in (view.status.get("times") or {}).items():
        try:
            moments[name] = datetime.fromisoformat(text)
        except (TypeError, ValueError):  # written by a stranger
            continue
        if moments[name].tzinfo is None:
            del moments[name]
    return moments


def wall_s(views: Sequence[TaskView], now: datetime) -> float | None:
    """Return the seconds from the first creation to the last exit, or to now."""
    starts = [time for view in views if (time := _created(view)) is not None]
    if not starts:
        return None
    if all(view.state.terminal for view in views):
        ends = [time for view in views if (time := moment(view, "exited")) is not None]
        return between_s(min(starts), max(ends)) if ends else None
    return between_s(min(starts), now)


def _created(view: TaskView) -> datetime | None:
    return moment(view, "created") or time_or_none(view.created)
