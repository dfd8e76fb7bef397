"""Trees as the controller needs them: who is in one, and who of them is cancelled with it.

A cancelled Task takes its descendants along (``spec.cancelScope``). So that this costs a tree
without a cancelled Task nothing, the cancelled ones are kept by tree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from taskctl.kube.interface import KubeObject
from taskctl.objectkey import ObjectKey
from taskctl.policy.view import TaskView, parse_task


class TreeKey(NamedTuple):
    """Names a tree. A root of another namespace is none of its own."""

    namespace: str
    root_uid: str

    @classmethod
    def of(cls, view: TaskView) -> TreeKey:
        """Return the tree that a Task belongs to."""
        return cls(view.namespace, view.root_uid)


@dataclass(slots=True)
class _Family:
    live: dict[str, ObjectKey] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    suspended: bool = False  # the root is
    timed_out: bool = False  # the tree is


class Families:
    """All trees of more than one Task, and all cancelled ones.

    Args:
        find: returns the cached Task with a UID.
    """

    def __init__(self, find: Callable[[str], TaskView | None]) -> None:
        self._find = find
        self._families: dict[TreeKey, _Family] = {}

    def __len__(self) -> int:
        return len(self._families)

    def on_task(self, old: KubeObject | None, new: KubeObject | None) -> list[ObjectKey]:
        """Take in a Task event; return the Tasks that it cancels, suspends, resumes or stops.

        O(1), but for a Task that is cancelled and a root that is suspended or resumed or whose
        tree has run out of time: O(members of its tree).
        """
        if new is None:
            if old is not None:
                self._forget(parse_task(old))
            return []
        view = parse_task(new)
        tree = TreeKey.of(view)
        family = self._families.get(tree)
        live = not view.is_root and not view.state.terminal
        if family is None:
            suspended = view.is_root and view.suspend
            if not live and not view.cancels_tree and not suspended and not view.tree_timed_out:
                return []
            family = self._families[tree] = _Family()
        if live:
            family.live[view.uid] = ObjectKey.of(new)
        else:
            family.live.pop(view.uid, None)
        found: list[ObjectKey] = []
        if view.cancels_tree and view.uid not in family.cancelled:
            family.cancelled.add(view.uid)
            found = list(family.live.values())
        elif live and family.cancelled:
            found = [ObjectKey.of(new)]
        if not view.cancels_tree:
            family.cancelled.discard(view.uid)  # taken back, to run it again
        if view.is_root and view.suspend is not family.suspended:
            family.suspended = view.suspend
            found = list(family.live.values())
        if view.is_root and view.tree_timed_out is not family.timed_out:
            family.timed_out = view.tree_timed_out
            found = [*family.live.values(), ObjectKey.of(new)]
        self._tidy(tree, family)
        return found

    def _forget(self, view: TaskView) -> None:
        tree = TreeKey.of(view)
        family = self._families.get(tree)
        if family is not None:
            family.live.pop(view.uid, None)
            family.cancelled.discard(view.uid)
            if view.is_root:
                family.suspended = family.timed_out = False
            self._tidy(tree, family)

    def _tidy(self, tree: TreeKey, family: _Family) -> None:
        if not (family.live or family.cancelled or family.suspended or family.timed_out):
            del self._families[tree]

    def suspended_with(self, view: TaskView) -> str:
        """Return the name of the suspended root above a Task, or an empty text."""
        family = None if view.is_root else self._families.get(TreeKey.of(view))
        return view.root_name if family is not None and family.suspended else ""

    def timed_out(self, view: TaskView) -> bool:
        """Whether the tree of a Task has run out of time; of a root its own."""
        if view.is_root:
            return view.tree_timed_out
        family = self._families.get(TreeKey.of(view))
        return family is not None and family.timed_out

    def cancelled_with(self, view: TaskView) -> tuple[str, str]:
        """Return the name of a Task above this one that is cancelled with its descendants.

        Beside it stands the name of the task that did it, since it needs it no more; empty where
        a user did. Both are empty where there is no such Task.
        Costs the depth of the Task, in trees with a cancelled one.
        """
        if view.is_root:
            return "", ""
        family = self._families.get(TreeKey.of(view))
        if family is None or not family.cancelled:
            return "", ""
        if view.root_uid in family.cancelled:
            return view.root_name, ""
        seen = {view.uid}
        above: TaskView | None = view
        while above is not None and not above.is_root and above.parent_uid not in seen:
            seen.add(above.parent_uid)
            name, uid = above.parent_name, above.parent_uid
            above = self._find(uid)
            if uid in family.cancelled:
                return name, "" if above is None else above.stopped_by
        return "", ""
