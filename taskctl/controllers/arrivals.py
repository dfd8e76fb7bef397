"""In which order Tasks were created, and how long ago.

Kubernetes notes creations in whole seconds, and a file of a hundred Tasks is created in one. The
version that an object had when it was first seen tells more: the API server hands versions out
in the order of its writes. A restarted controller sees the same versions of what has not been
written to since, which is true of what waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskctl.controllers.ages import Ages
from taskctl.policy.view import TaskView, time_or_none


class Arrivals:
    """What is known of the creation of each cached Task.

    Args:
        ages: measures.
    """

    def __init__(self, ages: Ages) -> None:
        self._ages = ages
        self._versions: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._versions)

    def on_task(self, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
        """Take in a Task event."""
        if new is None:
            if old is not None:
                self._versions.pop(old["metadata"]["uid"], None)
                self._ages.drop(old["metadata"]["uid"])
        else:
            metadata = new["metadata"]
            version = str(metadata.get("resourceVersion", ""))
            self._versions.setdefault(metadata["uid"], int(version) if version.isdigit() else 0)

    def order(self, uid: str) -> int:
        """Return a number that is larger for what was created later."""
        return self._versions.get(uid, 0)

    def age_s(self, view: TaskView) -> float:
        """Return the seconds since a Task was created."""
        created = time_or_none(view.created)
        return float("inf") if created is None else self._ages.age_s(view.uid, created)
