"""Waiting for children from asyncio: one request at a time for all who wait in a loop."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

from taskctl.sdk import _cancel, _env
from taskctl.sdk._awaiting import call, perform
from taskctl.sdk._child import Tracker
from taskctl.sdk._results import (
    WAIT_S,
    Gathering,
    board,
    cancel_operation,
    check_first,
    values_operation,
)
from taskctl.sdk.errors import TaskCancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any


class _Desk:
    """Asks the agent for all who wait in one event loop."""

    def __init__(self) -> None:
        self._users = 0
        self._asking: asyncio.Task[None] | None = None

    async def until(self, satisfied: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until a condition on the board holds; returns whether it does.

        Raises:
            AgentAway: the agent does not answer.
            TaskCancelled: the task is to stop.
        """
        loop = asyncio.get_running_loop()
        end_s = None if timeout_s is None else loop.time() + timeout_s
        self._users += 1
        try:
            if end_s is not None and not satisfied():
                await _ask(0.0)  # what has ended counts, however little time there is
            while not satisfied():
                left_s = None if end_s is None else end_s - loop.time()
                if left_s is not None and left_s <= 0:
                    return False
                await self._news(left_s)
            return True
        except asyncio.CancelledError as error:
            if _cancel.stop_requested():
                raise TaskCancelled("the task is to stop") from error
            raise
        finally:
            self._users -= 1
            if not self._users and self._asking is not None:
                self._asking.cancel()
                self._asking = None

    async def _news(self, left_s: float | None) -> None:
        """Wait for an answer of the agent, but no longer than that."""
        asking = self._asking
        if asking is None or asking.done():
            asking = self._asking = asyncio.create_task(_ask(wait_s()))
        await asyncio.wait({asking}, timeout=left_s)
        if asking.done() and not asking.cancelled():
            error = asking.exception()
            if error is not None:
                raise error


async def _ask(seconds: float) -> None:
    board.take(await call(board.request(seconds)))


def wait_s() -> float:
    """Return how long the agent may hold a request: well within the deadline for answers."""
    return min(WAIT_S, _env.deadline_s() / 2)


_desks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Desk] = WeakKeyDictionary()


def _desk() -> _Desk:
    _env.endpoint()
    _cancel.install()
    return _desks.setdefault(asyncio.get_running_loop(), _Desk())


async def gather(
    children: list[Any], *, return_exceptions: bool = False, min_success: int | None = None
) -> list[Any]:
    """Return the results of children; see :func:`taskctl.sdk.gather`."""
    desk = _desk()
    gathering = Gathering(children, return_exceptions, min_success)
    while gathering.open:
        await desk.until(gathering.settled)
        gathering.take(await perform(values_operation(gathering.succeeded())))
    return gathering.results()


async def as_completed(children: list[Any]) -> AsyncIterator[Any]:
    """Yield children as they end; see :func:`taskctl.sdk.as_completed`."""
    desk = _desk()
    tracker, given = Tracker(board, children), 0
    total = len(tracker.pending) + len(tracker.done)
    while given < total:

        def more(given: int = given) -> bool:
            tracker.update()
            return len(tracker.done) > given

        await desk.until(more)
        yield tracker.done[given]
        given += 1


async def wait(
    children: list[Any], first: int | None, timeout: float | None
) -> tuple[list[Any], list[Any]]:
    """Wait for some children; see :func:`taskctl.sdk.wait`."""
    desk = _desk()
    tracker = Tracker(board, children)
    wanted = check_first(first, len(tracker.pending) + len(tracker.done))

    def enough() -> bool:
        tracker.update()
        return len(tracker.done) >= wanted

    await desk.until(enough, timeout)
    return list(tracker.done), list(tracker.pending.values())


async def cancel(children: list[Any]) -> int:
    """Cancel children; returns how many had not ended."""
    _desk()
    return await perform(cancel_operation(children))
