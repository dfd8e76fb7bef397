"""What is known of a Task at a moment, read from the raw object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskctl.api.states import TaskState
from taskctl.outside.outcome import cause_of, has_succeeded, is_complete, state_of


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A Task as the API server last told of it.

    Attributes:
        raw: the whole object, as ``kubectl get -o json`` shows it.
    """

    raw: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the Task."""
        return str(self.raw["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Namespace of the Task."""
        return str(self.raw["metadata"].get("namespace", ""))

    @property
    def uid(self) -> str:
        """UID of the Task: one made again under the same name has another."""
        return str(self.raw["metadata"]["uid"])

    @property
    def state(self) -> TaskState:
        """State of the Task."""
        return TaskState(state_of(self.raw))

    @property
    def reason(self) -> str:
        """CamelCase word that says why it is in that state, or empty."""
        return str(self._status.get("reason") or "")

    @property
    def message(self) -> str:
        """The same for people; of a failed task with the end of its log."""
        return str(self._status.get("message") or "")

    @property
    def cause(self) -> str:
        """The message as one line, safe to print."""
        return cause_of(self._status)

    @property
    def exit_code(self) -> int | None:
        """Exit code of the command in the latest attempt."""
        return self._status.get("exitCode")

    @property
    def attempt(self) -> int:
        """Number of the latest attempt; 0 before the first."""
        return int(self._status.get("attempt") or 0)

    @property
    def pod_name(self) -> str:
        """Worker of the latest attempt, or empty."""
        return str(self._status.get("podName") or "")

    @property
    def pod_names(self) -> list[str]:
        """Workers of all attempts that are on record."""
        past = [str(item.get("podName") or "") for item in self._status.get("attempts") or ()]
        return list(dict.fromkeys(name for name in (*past, self.pod_name) if name))

    @property
    def progress(self) -> tuple[int, int, str]:
        """What the task reported: units done, units in all (0: unknown), message."""
        found = self._status.get("progress") or {}
        return found.get("done") or 0, found.get("total") or 0, found.get("message") or ""

    @property
    def ended(self) -> bool:
        """Whether the Task itself has ended, whatever its descendants do."""
        return self.state.terminal

    @property
    def complete(self) -> bool:
        """Whether the Task, and of a root its whole tree, has ended."""
        return is_complete(self.raw)

    @property
    def succeeded(self) -> bool:
        """Whether the Task, and of a root its whole tree, has ended with success."""
        return has_succeeded(self.raw)

    @property
    def _status(self) -> Mapping[str, Any]:
        return self.raw.get("status") or {}

    def __str__(self) -> str:
        detail = ": ".join(part for part in (self.reason, self.cause) if part)
        return f"{self.name}: {self.state}" + (f" ({detail})" if detail else "")
