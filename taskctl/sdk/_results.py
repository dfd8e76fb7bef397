"""What is known and asked about children; either transport carries it out."""

from __future__ import annotations

from taskctl.sdk import _stored
from taskctl.sdk._child import Board, Tracker, failure
from taskctl.sdk.errors import ChildGone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

    from taskctl.sdk._child import SpawnedChild
    from taskctl.sdk._exchange import Operation
    from taskctl.sdk.errors import ChildError
    from taskctl.wire import Message

MAX_VALUES: Final = 200  # asked for at once
MAX_CANCELLED: Final = 500
WAIT_S: Final = 20.0  # of one request; the agent answers sooner when a child ends

board = Board()


class Gathering:
    """Some children on their way to results.

    Args:
        children: in the order of the results.
        return_exceptions: errors of children are results too.
        min_success: so many must succeed; None: all, unless errors are results.

    Raises:
        ValueError: there are fewer children than are to succeed.
    """

    def __init__(
        self, children: list[Any], return_exceptions: bool, min_success: int | None
    ) -> None:
        self._children = children
        self._tracker = Tracker(board, children)
        self._found: dict[str, Any] = {}
        self._errors: list[ChildError] = []
        self._seen = 0
        self._good: list[SpawnedChild[Any]] = []
        distinct = len(self._tracker.pending) + len(self._tracker.done)
        self._missing = distinct
        self._tolerated = distinct if return_exceptions else 0
        if min_success is not None:
            if not 0 <= min_success <= distinct:
                raise ValueError(f"min_success is {min_success}; there are {distinct} children")
            self._tolerated = distinct - min_success

    @property
    def open(self) -> bool:
        """Whether results are missing."""
        return self._missing > 0

    def settled(self) -> bool:
        """Whether all have ended, or too many of them without success."""
        self._tracker.update()
        done = self._tracker.done
        for child in done[self._seen :]:
            error = failure(child, board.outcomes[child.uid])
            if error is None:
                self._good.append(child)
            else:
                self._add_error(error)
        self._seen = len(done)
        return not self._tracker.pending or len(self._errors) > self._tolerated

    def _add_error(self, error: ChildError) -> None:
        self._errors.append(error)
        self._add(error.child.uid, error)

    def _add(self, uid: str, result: Any) -> None:
        self._found[uid] = result
        self._missing -= 1

    def succeeded(self) -> list[SpawnedChild[Any]]:
        """Return the children whose results are to be fetched.

        Raises:
            ChildError: too many have ended without success; that of the first.
        """
        if len(self._errors) > self._tolerated:
            raise self._errors[0]
        good, self._good = self._good, []
        return good

    def take(self, fetched: dict[str, Any]) -> None:
        """Take in results that were fetched, by UID.

        Raises:
            ChildError: too many are lost; that of the first.
        """
        for uid, value in fetched.items():
            if value is REOPENED:
                self._reopen(uid)
            elif isinstance(value, ChildGone):
                self._add_error(value)
            else:
                self._add(uid, value)
        if len(self._errors) > self._tolerated:
            raise self._errors[0]

    def _reopen(self, uid: str) -> None:
        board.forget(uid)
        child = next(child for child in self._children if child.uid == uid)
        self._tracker.pending[uid] = child

    def results(self) -> list[Any]:
        """Return all results in the order of the children."""
        return [self._found[child.uid] for child in self._children]


class _Reopened:
    """Stands for the result of a child that was started again since it ended."""


REOPENED: Final = _Reopened()


def values_operation(children: list[SpawnedChild[Any]]) -> Operation[dict[str, Any]]:
    """Fetch the results of children that have succeeded, by UID.

    Raises:
        InputMissing, InputCorrupt, InputInvalid: one cannot be read.
    """
    found: dict[str, Any] = {}
    silent = [child for child in children if not board.outcomes[child.uid].get("has_output")]
    found.update((child.uid, None) for child in silent)
    waiting = [child for child in children if child.uid not in found]
    if not waiting:
        return found
    attached = yield {"op": "attach"}
    workspace = attached.get("workspace") or ""
    while waiting:
        uids = [child.uid for child in waiting[:MAX_VALUES]]
        answer = yield {"op": "results", "uids": uids}
        for child, item in zip(waiting, answer["results"]):
            found[child.uid] = _value(child, item, workspace)
        waiting = waiting[len(answer["results"]) :]
    return found


def _value(child: SpawnedChild[Any], item: Message, workspace: str) -> Any:
    if "open" in item:
        return REOPENED
    if "missing" in item:
        return ChildGone(
            child,
            state="Deleted",
            reason="Deleted",
            message=f"{item['missing']}; a longer ttl keeps results until they are read",
        )
    where = f"the result of {child.name}"
    plain = _stored.load(item, workspace, where)
    if child.function is None:
        return plain
    from taskctl.sdk._functions import decode_result

    return decode_result(child.function.function, plain, where)


def cancel_operation(children: Iterable[SpawnedChild[Any]]) -> Operation[int]:
    """Cancel children; returns how many had not ended."""
    targets = [{"name": child.name, "uid": child.uid} for child in children]
    cancelled = 0
    while targets:
        batch, targets = targets[:MAX_CANCELLED], targets[MAX_CANCELLED:]
        answer = yield {"op": "cancel", "tasks": batch}
        cancelled += sum(bool(item["cancelled"]) for item in answer["tasks"])
    return cancelled


def check_first(first: int | None, count: int) -> int:
    """Return how many children wait() waits for.

    Raises:
        ValueError: there are not as many.
    """
    if first is None:
        return count
    if isinstance(first, bool) or not isinstance(first, int) or not 1 <= first <= max(count, 1):
        raise ValueError(f"first is {first!r}; it must be 1 to {count}, the number of children")
    return first
