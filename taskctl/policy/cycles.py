"""Do Tasks wait for each other in a circle (``spec.runAfter``)?

``runAfter`` cannot be changed, so a circle closes when its last Task is created, and each of its
members then waits forever. Names may be used before the Task exists, so the API server cannot
refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from taskctl.constants import Reason


class GroupNode(NamedTuple):
    """The members of a group, but for the Task that waits for them.

    Attributes:
        root_uid: UID of the tree's root.
        group: its name.
        without: UID of the Task that waits.
        subtree: each with all its descendants.
    """

    root_uid: str
    group: str
    without: str
    subtree: bool


class SubtreeNode(NamedTuple):
    """A Task with all its descendants."""

    name: str


# What a Task may wait for: another Task, by name, or more than one at a time.
Place = str | GroupNode | SubtreeNode
# Returns what a Task that has not begun waits for, or who belongs to a place; empty for a Task that
# has ended, None for one that does not exist (yet).
Waits = Callable[[Place], Iterable[Place] | None]


def failed_for_cycle(task: Mapping[str, Any]) -> bool:
    """Whether a raw Task was failed because it was on a cycle."""
    return (task.get("status") or {}).get("reason") == Reason.DEPENDENCY_CYCLE


class Cycles:
    """Finds circles; remembers what cannot be on one.

    A Task is *settled* when everything it waits for, directly or not, exists and leads to no
    circle. Nothing that is created later can change that, so it is looked through once only, and
    all of a large graph cost one pass. A deleted Task may be made again with another
    ``runAfter``: call :meth:`deleted`.
    """

    def __init__(self) -> None:
        self._settled: set[tuple[str, str]] = set()

    def deleted(self, namespace: str, name: str, *, awaited: bool) -> None:
        """A Task was deleted, and may be made again: what hangs on it is not settled any more.

        Args:
            namespace: of the Task.
            name: of the Task.
            awaited: another one waits for it.
        """
        if awaited:
            self._settled.clear()
        self._settled.discard((namespace, name))

    def find(self, namespace: str, name: str, waits: Waits) -> tuple[str, ...]:
        """Return the names on a circle through a Task, itself first; empty: there is none.

        A Task that merely waits for one on a circle is not on it: it ends as its predecessors do.

        Args:
            namespace: of the Task.
            name: of the Task.
            waits: what each Task of the namespace waits for.
        """
        path: list[Place] = [name]
        rest = [iter(waits(name) or ())]
        complete = [True]  # by depth: everything below exists
        seen: set[Place] = {name}
        while rest:
            below = next(rest[-1], None)
            if below is None:
                rest.pop()
                done, whole = path.pop(), complete.pop()
                # A group may have more members later, and a task descendants that wait.
                whole = whole and isinstance(done, str)
                if whole:
                    self._settled.add((namespace, str(done)))
                elif complete:
                    complete[-1] = False
                continue
            if below == name:
                return tuple(_word(place) for place in path)
            if isinstance(below, str) and (namespace, below) in self._settled:
                continue
            if below in seen:
                complete[-1] = False  # not known whether what it leads to is complete
                continue
            seen.add(below)
            further = waits(below)
            if further is None:
                complete[-1] = False
                continue
            path.append(below)
            rest.append(iter(further))
            complete.append(True)
        return ()


def _word(place: Place) -> str:
    match place:
        case GroupNode():
            return f"group {place.group}"
        case SubtreeNode():
            return f"the subtree of {place.name}"
        case _:
            return place
