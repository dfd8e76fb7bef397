"""A child task: who it is, how it ended, what is raised for one that did not succeed."""

from __future__ import annotations

from taskctl.sdk._types import OfResult, R_co
from taskctl.sdk.errors import ChildCancelled, ChildError, ChildFailed, ChildGone, ChildSkipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeVar

    from taskctl.sdk._functions import TaskFunction
    from taskctl.wire import Message

    ChildT = TypeVar("ChildT", bound="SpawnedChild[Any]")

SUCCEEDED = "Succeeded"


class SpawnedChild(OfResult[R_co]):
    """A child task that exists; what asyncio and other code have in common.

    Attributes:
        name: of the Task.
        uid: of the Task.
        created: False: an earlier run of this task had created it.
        key: what names it among this task's children.
        function: what it runs, if it was spawned by a function; its annotation leads the result
            back.
    """

    __slots__ = ("created", "function", "key", "name", "uid")

    def __init__(
        self,
        name: str,
        uid: str,
        created: bool,
        key: str,
        function: TaskFunction[..., Any] | None = None,
    ) -> None:
        self.name = name
        self.uid = uid
        self.created = created
        self.key = key
        self.function = function

    def __repr__(self) -> str:
        return f"Child(name={self.name!r}, key={self.key!r}, created={self.created})"


class Board:
    """How the children of this task ended, as far as this process was told.

    Attributes:
        outcomes: by UID; see ``children`` in docs/protocol.md.
        order: UIDs in the order in which their ends became known.
    """

    def __init__(self) -> None:
        self.outcomes: dict[str, Message] = {}
        self.order: list[str] = []
        self._epoch = ""
        self._next = 0

    def request(self, wait_s: float) -> Message:
        """Return the request for further outcomes."""
        wait_ms = max(0, int(wait_s * 1000))
        return {"op": "children", "epoch": self._epoch, "after": self._next, "wait_ms": wait_ms}

    def take(self, answer: Message) -> None:
        """Take note of an answer."""
        for outcome in answer["ended"]:
            uid = outcome["uid"]
            if uid not in self.outcomes:
                outcome["order"] = len(self.order)
                self.order.append(uid)
            else:
                outcome["order"] = self.outcomes[uid]["order"]
            self.outcomes[uid] = outcome
        self._epoch, self._next = answer["epoch"], answer["next"]

    def forget(self, uid: str) -> None:
        """Wait for a child once more: it was started again (``taskctl retry``)."""
        self.outcomes.pop(uid, None)


class Tracker:
    """Some children, and which of them have ended.

    Args:
        board: what is known.
        children: the children.

    Attributes:
        pending: those that have not ended, by UID.
        done: those that have ended, in that order.
    """

    def __init__(self, board: Board, children: Iterable[ChildT]) -> None:
        self._board = board
        self.pending: dict[str, Any] = {child.uid: child for child in children}
        known = [uid for uid in self.pending if uid in board.outcomes]
        known.sort(key=lambda uid: board.outcomes[uid]["order"])
        self.done: list[Any] = [self.pending.pop(uid) for uid in known]
        self._position = len(board.order)

    def update(self) -> None:
        """Look at what has become known since."""
        order = self._board.order
        while self._position < len(order):
            uid = order[self._position]
            self._position += 1
            child = self.pending.pop(uid, None)
            if child is not None:
                self.done.append(child)

    def failures(self) -> list[ChildError]:
        """Return the errors of those that have ended without success."""
        found = [failure(child, self._board.outcomes[child.uid]) for child in self.done]
        return [error for error in found if error is not None]


def check_children(children: Any, function: str, groups: bool = False) -> Any:
    """Return children as a list; a group, where that will do, as it is.

    Raises:
        TypeError: there is something else among them.
    """
    from taskctl.sdk._sources import Group

    if isinstance(children, Group):
        if groups:
            return children
        raise TypeError(f"{function}() takes a group with then= only: pass the children")
    if isinstance(children, SpawnedChild):
        raise TypeError(f"{function}() takes several children: put {children!r} into a list")
    if hasattr(children, "__await__"):
        _close(children)
        raise TypeError(f"{function}() takes children: await spawn_many() first")
    found = list(children)
    wrong = [item for item in found if not isinstance(item, SpawnedChild)]
    if not wrong:
        return found
    for item in wrong:
        _close(item)
    hint = ": await spawn() first" if hasattr(wrong[0], "__await__") else ""
    raise TypeError(
        f"{function}() takes children as spawn() returns them, not {type(wrong[0]).__name__}{hint}"
    )


def check_no_arguments(arguments: dict[str, Any]) -> None:
    """Make sure that gather() without ``then`` was given nothing that it does not know.

    Raises:
        TypeError: it was.
    """
    if arguments:
        raise TypeError(
            f"gather() has no argument {next(iter(arguments))!r}; only with then= it takes others, "
            "which are arguments of that function"
        )


def _close(item: Any) -> None:
    """Keep Python from warning once more of a coroutine that an error is raised for."""
    close = getattr(item, "close", None)
    if close is not None and hasattr(item, "__await__"):
        close()


def failure(child: SpawnedChild[Any], outcome: Message) -> ChildError | None:
    """Return the error for a child that has not succeeded; None: it has."""
    state = outcome["state"]
    if state == SUCCEEDED:
        return None
    kinds = {"Cancelled": ChildCancelled, "Skipped": ChildSkipped, "Deleted": ChildGone}
    kind = kinds.get(state, ChildFailed)
    return kind(
        child,
        state=state,
        reason=outcome.get("reason") or "",
        message=outcome.get("message") or "",
        exit_code=outcome.get("exit_code"),
        attempt=outcome.get("attempt") or 0,
    )
