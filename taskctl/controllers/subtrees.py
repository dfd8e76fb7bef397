"""Has a Task ended together with all its descendants, and well? Told as the events come in.

Each Task counts itself and those of its children whose subtree is still open, or has failed.
It tells its own parent only when such a count leaves zero or comes back to it. So a Task's end
costs O(1) in the long run, however deep or wide its tree is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from taskctl.constants import Reason
from taskctl.kube.interface import KubeObject
from taskctl.policy.status import FINE
from taskctl.policy.view import TaskView, parse_task


class TaskId(NamedTuple):
    """Names a Task. A parent of another namespace is none."""

    namespace: str
    uid: str


class Verdict(NamedTuple):
    """How a Task and all its descendants stand together."""

    open: bool
    bad: bool


@dataclass(slots=True)
class _Counts:
    parent: TaskId | None = None
    exists: bool = False
    open_itself: bool = False
    bad_itself: bool = False
    open_children: int = 0
    bad_children: int = 0

    @property
    def verdict(self) -> Verdict:
        return Verdict(
            self.open_itself or self.open_children > 0, self.bad_itself or self.bad_children > 0
        )


class Subtrees:
    """The subtrees of all Tasks."""

    def __init__(self) -> None:
        self._counts: dict[TaskId, _Counts] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def verdict(self, node: TaskId) -> Verdict:
        """Return how a Task and its descendants stand; of an unknown one: it has ended well."""
        counts = self._counts.get(node)
        return Verdict(open=False, bad=False) if counts is None else counts.verdict

    def parent(self, node: TaskId) -> TaskId | None:
        """Return the parent of a Task; None for a root, and where it is not known."""
        counts = self._counts.get(node)
        return None if counts is None else counts.parent

    def on_task(self, old: KubeObject | None, new: KubeObject | None) -> list[TaskId]:
        """Take in a Task event; return the Tasks whose subtree's verdict it has changed."""
        obj = new if new is not None else old
        if obj is None:
            return []
        view = parse_task(obj)
        node = TaskId(view.namespace, view.uid)
        counts = self._counts.get(node)
        if counts is None:
            if new is None:
                return []
            counts = self._counts[node] = _Counts()
        before = counts.verdict
        changed: list[TaskId] = []
        if not counts.exists and counts.parent is None and view.parent_uid:
            counts.parent = TaskId(view.namespace, view.parent_uid)
            # What its children have told it meanwhile.
            changed += self._tell(counts.parent, Verdict(open=False, bad=False), before)
        counts.exists = new is not None
        counts.open_itself = new is not None and not view.state.terminal
        counts.bad_itself = new is not None and _is_bad(view)
        if counts.verdict != before:
            changed.append(node)
            changed += self._tell(counts.parent, before, counts.verdict)
        self._tidy(node)
        return changed

    def _tell(self, node: TaskId | None, before: Verdict, after: Verdict) -> Iterator[TaskId]:
        """Take a child's change to its parent, and as far up as it changes anything."""
        changed: list[TaskId] = []
        while node is not None and before != after:
            counts = self._counts.get(node)
            if counts is None:
                counts = self._counts[node] = _Counts()
            child_before, child_after = before, after
            before = counts.verdict
            counts.open_children += child_after.open - child_before.open
            counts.bad_children += child_after.bad - child_before.bad
            after = counts.verdict
            if before != after:
                changed.append(node)
            above = counts.parent
            self._tidy(node)
            node = above
        return iter(changed)

    def _tidy(self, node: TaskId) -> None:
        counts = self._counts[node]
        if not counts.exists and not counts.open_children and not counts.bad_children:
            del self._counts[node]

    def ancestors(self, node: TaskId) -> set[str]:
        """Return the UIDs of a Task and of all Tasks above it. Costs its depth."""
        found: set[str] = set()
        above: TaskId | None = node
        while above is not None and above.uid not in found:
            found.add(above.uid)
            above = self.parent(above)
        return found


def _is_bad(view: TaskView) -> bool:
    stopped = view.status.get("reason") == Reason.STOPPED  # by its tree, which does it no harm
    return view.state.terminal and view.state not in FINE and not stopped
