"""Budgets of a tree (``spec.limits`` of its root), and what is said where one is spent.

``limits.descendants`` is exact: before an agent creates children, it sets their number aside on
the root (``status.tree.descendants``), by compare-and-swap. With it stands who may have how many
children (``status.tree.spawning``), so that what a dead agent had set aside is neither lost nor
counted twice: the parent's next attempt takes it up, and when the parent has ended the controller
gives back what was not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from taskctl.api.treestatus import MAX_SPAWNING
from taskctl.policy.status import StatusPatch
from taskctl.policy.view import TaskView

WHERE_TO_RAISE: Final = (
    "set a higher one in spec.limits of the next root, or in taskDefaults.limits of its "
    "TaskCluster; those of a tree do not change"
)


@dataclass(frozen=True, slots=True)
class Reserved:
    """The children may be created.

    Attributes:
        patch: of the root's status, to be written before; None: they are counted already.
    """

    patch: StatusPatch | None


@dataclass(frozen=True, slots=True)
class OverBudget:
    """The tree may not have so many descendants.

    Attributes:
        message: for people.
    """

    message: str


@dataclass(frozen=True, slots=True)
class Crowded:
    """Too many parents are creating children at this moment; try again."""


def live_tasks_sentence(root: TaskView) -> str:
    """Return the sentence on a tree of which as many tasks run as may."""
    return (
        f"As many tasks of the tree run as limits.liveTasks={root.limit('liveTasks')} of root task "
        f"{root.name} allows; the others wait until one of them has ended (to have more, "
        f"{WHERE_TO_RAISE})."
    )


def graph_refusal(root: TaskView) -> str | None:
    """Return why a root with tasks may not have that many, or None if it may."""
    limit, count = root.limit("descendants"), len(root.spec.get("tasks") or ())
    if limit is None or count <= limit:
        return None
    return f"spec.tasks has {count} tasks, and limits.descendants allows {limit}; {WHERE_TO_RAISE}."


def decide_reservation(
    root: TaskView, parent: TaskView, existing: int, missing: int
) -> Reserved | OverBudget | Crowded:
    """Decide whether a parent may create more children.

    Args:
        root: the root, as just read.
        parent: who spawns.
        existing: how many children it has.
        missing: how many of those it asks for do not exist.
    """
    parent_uid, limit = parent.uid, root.limit("descendants")
    if limit is None:  # the root may take it from its TaskCluster, and not have it yet
        limit = parent.limit("descendants")
    if limit is None or not missing:
        return Reserved(None)
    spawning, used = _spawning(root), _used(root)
    may_have = spawning.get(parent_uid, existing)
    more = max(existing + missing - may_have, 0)
    if used + more > limit:
        return OverBudget(
            f"{missing} more descendants would make {used + more} of root task {root.name}; its "
            f"limits.descendants allows {limit}; {WHERE_TO_RAISE}"
        )
    if not more and parent_uid in spawning:
        return Reserved(None)
    if parent_uid not in spawning and len(spawning) >= MAX_SPAWNING:
        return Crowded()
    return Reserved(_patch(used + more, spawning | {parent_uid: may_have + more}))


def settled_patch(root: TaskView, children: Mapping[str, int]) -> StatusPatch | None:
    """Return the patch that closes what is set aside for parents; None: nothing is.

    Args:
        root: the root, as just read.
        children: how many children those parents have got, by UID; they create no more of them.
    """
    spawning, used = _spawning(root), _used(root)
    closed = spawning.keys() & children.keys()
    if not closed:
        return None
    unused = sum(spawning[uid] - children[uid] for uid in closed)
    return _patch(used - unused, {uid: n for uid, n in spawning.items() if uid not in closed})


def is_settled(root: TaskView, parent_uid: str, children: int) -> bool:
    """Whether nothing more is set aside for a parent than the children it has."""
    return _spawning(root).get(parent_uid, children) == children


def spawning_parents(root: TaskView) -> tuple[str, ...]:
    """Return the UIDs of the parents that a part of the budget is set aside for."""
    return tuple(_spawning(root))


def _tree(root: TaskView) -> Mapping[str, Any]:
    return root.status.get("tree") or {}


def _spawning(root: TaskView) -> dict[str, int]:
    return {entry["task"]: entry["children"] for entry in _tree(root).get("spawning") or ()}


def _used(root: TaskView) -> int:
    """How many descendants are counted: those of ``spec.tasks`` from the beginning."""
    used = _tree(root).get("descendants")
    return len(root.spec.get("tasks") or ()) if used is None else int(used)


def _patch(used: int, spawning: Mapping[str, int]) -> StatusPatch:
    entries = [{"task": uid, "children": count} for uid, count in spawning.items()]
    return {"tree": {"descendants": used, "spawning": entries or None}}
