"""What the page asks of single Tasks; the command line brings it along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class LogText:
    """What a task wrote.

    Attributes:
        text: the last lines, as bytes of unknown encoding.
        note: what the reader should know of it, or empty.
        cut: there is more before it.
    """

    text: bytes
    note: str = ""
    cut: bool = False


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A Task that a browser names; the UID makes sure that it is still the same."""

    namespace: str
    name: str
    uid: str


class TaskOps(Protocol):
    """Reads and changes single Tasks."""

    async def get(self, ref: TaskRef) -> dict[str, Any]:
        """Return the raw Task.

        Raises:
            TaskctlError: it is gone, or we may not see it.
        """
        ...

    async def log(self, ref: TaskRef, attempt: int | None) -> LogText:
        """Return the end of an attempt's log; None: of the latest.

        Raises:
            TaskctlError: there is none, or we may not see it.
        """
        ...

    async def cancel(self, ref: TaskRef) -> None:
        """Cancel the Task and its descendants.

        Raises:
            TaskctlError: it has ended, or we may not.
        """
        ...

    async def retry(self, ref: TaskRef) -> None:
        """Run a failed Task again.

        Raises:
            TaskctlError: it has not failed, or we may not.
        """
        ...
