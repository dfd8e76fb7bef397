"""Which changes of a Task are transitions, and so get a line. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def transition_of(task: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what must change for a Task to get another line; its progress is not a transition."""
    status, metadata = task.get("status") or {}, task["metadata"]
    conditions = sorted(
        (str(one.get("type")), str(one.get("status"))) for one in status.get("conditions") or ()
    )
    return (
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        status.get("state"),
        status.get("reason"),
        status.get("attempt"),
        status.get("exitCode"),
        status.get("phase"),
        tuple(conditions),
    )


class Transitions:
    """Which Tasks have got which line; as many as there are Tasks.

    Args:
        recorded: Tasks as their last lines have them.
    """

    def __init__(self, recorded: Iterable[Mapping[str, Any]] = ()) -> None:
        self._last = {task["metadata"]["uid"]: transition_of(task) for task in recorded}
        self.tasks: dict[str, Mapping[str, Any]] = {}

    def update(
        self, tasks: Sequence[Mapping[str, Any]], *, deleted: bool, complete: bool
    ) -> list[Mapping[str, Any]]:
        """Take notice of Tasks, and return those that get a line.

        Args:
            tasks: as they are now.
            deleted: they are gone.
            complete: there are no others.
        """
        if complete:
            self.tasks.clear()
        changed = []
        for task in tasks:
            uid = task["metadata"]["uid"]
            now = transition_of(task)
            if self._last.get(uid) != now:
                changed.append(task)
                self._last[uid] = now
            self.tasks[uid] = task
        if deleted:
            for task in tasks:
                self.tasks.pop(task["metadata"]["uid"], None)
                self._last.pop(task["metadata"]["uid"], None)
        if complete:
            self._last = {uid: last for uid, last in self._last.items() if uid in self.tasks}
        return changed
