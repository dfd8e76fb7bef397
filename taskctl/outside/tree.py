"""A task and all that grew from it, as text and as HTML for notebooks. Pure."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from taskctl.api.states import TaskState
from taskctl.outside.info import TaskInfo
from taskctl.policy.view import parse_task

_SHOWN: Final = 200
_MARKS: Final = {
    TaskState.PENDING: "·",
    TaskState.SCHEDULED: "·",
    TaskState.RUNNING: "▶",
    TaskState.SUCCEEDED: "✓",
    TaskState.FAILED: "✗",
    TaskState.CANCELLED: "⊘",
    TaskState.SKIPPED: "–",
}
_COLOURS: Final = {
    TaskState.PENDING: "#8a6d00",
    TaskState.SCHEDULED: "#8a6d00",
    TaskState.RUNNING: "#0b6bcb",
    TaskState.SUCCEEDED: "#1a7f37",
    TaskState.FAILED: "#c62828",
    TaskState.CANCELLED: "#666",
    TaskState.SKIPPED: "#666",
}


@dataclass(slots=True)
class Tree:
    """A task and its children, each a tree of its own.

    Attributes:
        task: the task.
        children: in the order of their creation.
    """

    task: TaskInfo
    children: list[Tree] = field(default_factory=list)

    def __iter__(self) -> Iterator[TaskInfo]:
        """Yield all tasks, parents before children."""
        for _, tree in self._walk():
            yield tree.task

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def counts(self) -> Counter[TaskState]:
        """How many tasks are in which state."""
        return Counter(task.state for task in self)

    def _walk(self) -> Iterator[tuple[int, Tree]]:
        # Trees are deep: no recursion.
        stack = [(0, self)]
        while stack:
            depth, tree = stack.pop()
            yield depth, tree
            stack += [(depth + 1, child) for child in reversed(tree.children)]

    def __str__(self) -> str:
        lines = []
        for number, (depth, tree) in enumerate(self._walk()):
            if number == _SHOWN:
                lines.append(f"… and {len(self) - _SHOWN} more")
                break
            lines.append(f"{'  ' * depth}{_MARKS[tree.task.state]} {tree.task}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the tree for a notebook; all that tasks wrote is escaped."""
        rows = []
        for number, (depth, tree) in enumerate(self._walk()):
            if number == _SHOWN:
                rows.append(f"<div>… and {len(self) - _SHOWN} more</div>")
                break
            task = tree.task
            detail = ": ".join(part for part in (task.reason, task.cause) if part)
            rows.append(
                f'<div style="margin-left:{min(depth, 40) * 1.5}em">'
                f'<span style="color:{_COLOURS[task.state]}">{_MARKS[task.state]} '
                f"{html.escape(task.state)}</span> <b>{html.escape(task.name)}</b> "
                f'<span style="color:#666">{html.escape(detail)}</span></div>'
            )
        counts = ", ".join(f"{count} {state.lower()}" for state, count in self.counts.items())
        return (
            '<div style="font-family:monospace;line-height:1.5">'
            f"{''.join(rows)}<div><small>{html.escape(counts)}</small></div></div>"
        )


def tree_of(top: Mapping[str, Any], members: Iterable[Mapping[str, Any]]) -> Tree:
    """Return the tree below a raw Task, made of the raw Tasks of its root's tree."""
    trees = {task["metadata"]["uid"]: Tree(TaskInfo(task)) for task in (*members, top)}
    views = {uid: parse_task(tree.task.raw) for uid, tree in trees.items()}
    for uid in sorted(trees, key=lambda uid: (views[uid].created, views[uid].name)):
        parent = trees.get(views[uid].parent_uid)
        if parent is not None and parent is not trees[uid]:
            parent.children.append(trees[uid])
    return trees[top["metadata"]["uid"]]
