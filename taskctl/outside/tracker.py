"""One watch over all Tasks of a client, however many results are awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final

from taskctl.api.resources import TASKS
from taskctl.api.states import TaskState
from taskctl.errors import NotFound, TaskctlError
from taskctl.kube.follow import Selection, follow
from taskctl.outside.attempts import TaskDeleted
from taskctl.outside.outcome import state_of
from taskctl.outside.session import Session

Seen = Callable[[dict[str, Any]], None]
_CHECKS_AT_ONCE: Final = 16
_RECENT: Final = 4096


class TaskTracker:
    """Tells of the Tasks that a label selector matches when they change and end.

    Made and used in one event loop.

    Args:
        session: client and namespace.
        label_selector: matches the Tasks.
        field_selector: the same.
    """

    def __init__(
        self, session: Session, label_selector: str = "", field_selector: str = ""
    ) -> None:
        self._session = session
        self._selection = Selection(
            TASKS, session.namespace, label_selector=label_selector, field_selector=field_selector
        )
        self._watching: asyncio.Task[None] | None = None
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._names: dict[str, str] = {}
        self._seen: dict[str, list[Seen]] = {}
        # Ends of the last moments: the watch may tell of one before its Task is expected, and
        # results are asked for one after the other.
        self._recent: OrderedDict[str, dict[str, Any]] = OrderedDict()
        # Of Tasks that were run again: versions before this one tell of the end that was.
        self._oldest: OrderedDict[str, int] = OrderedDict()

    async def ended(self, name: str, uid: str, seen: Seen | None = None) -> dict[str, Any]:
        """Return the raw Task when it is terminal.

        Args:
            name: of the Task.
            uid: of the Task.
            seen: is told of each change on the way.

        Raises:
            TaskDeleted: it was deleted before.
            ApiError: the API server refuses, or has been away for long.
        """
        if seen is not None:
            self._seen.setdefault(uid, []).append(seen)
        try:
            if uid in self._recent:
                return self._recent[uid]
            future = self._waiting.get(uid)
            if future is None:
                future = self._register(name, uid)
                # The watch tells of changes; what is so already has to be asked for.
                if self.running:
                    await self._look(name, uid)
            if not self.running:
                self._watching = asyncio.create_task(self._watch(), name="tracker of tasks")
            return await asyncio.shield(future)
        finally:
            if seen is not None:
                self._seen[uid].remove(seen)
                if not self._seen[uid]:
                    del self._seen[uid]

    def expect(self, name: str, uid: str) -> None:
        """Take note of a Task that was created this moment, which saves a request later."""
        if self.running and uid not in self._recent:
            self._register(name, uid)

    def renew(self, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Take note of the present state of raw Tasks, which may have ended before."""
        for task in tasks:
            uid = task["metadata"]["uid"]
            self._recent.pop(uid, None)
            self._oldest[uid] = _version(task)
            self._oldest.move_to_end(uid)
        while len(self._oldest) > _RECENT:
            self._oldest.popitem(last=False)

    @property
    def running(self) -> bool:
        """Whether the watch is there."""
        return self._watching is not None and not self._watching.done()

    def _register(self, name: str, uid: str) -> asyncio.Future[dict[str, Any]]:
        self._waiting[uid] = asyncio.get_running_loop().create_future()
        self._names[uid] = name
        return self._waiting[uid]

    async def close(self) -> None:
        """Stop watching."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self._fail(TaskctlError("the client was closed"))

    async def _watch(self) -> None:
        try:
            async with aclosing(follow(self._session.client, self._selection)) as changes:
                async for change in changes:
                    for task in change.objects:
                        self._take(task, deleted=change.deleted)
                    if change.complete:
                        there = {task["metadata"]["uid"] for task in change.objects}
                        await self._check(self._waiting.keys() - there)
        except TaskctlError as error:
            self._fail(error)
        except Exception as error:
            self._fail(error)
            raise

    async def _check(self, missing: Iterable[str]) -> None:
        """Ask for Tasks that a list has not: they are younger than it, or gone."""
        gate = asyncio.Semaphore(_CHECKS_AT_ONCE)

        async def check(uid: str) -> None:
            async with gate:
                await self._look(self._names[uid], uid)

        await asyncio.gather(*(check(uid) for uid in list(missing)))

    async def _look(self, name: str, uid: str) -> None:
        try:
            task = await self._session.client.get(TASKS, name, self._session.namespace)
        except NotFound:
            self._gone(uid)
            return
        if task["metadata"]["uid"] == uid:
            self._take(task)
        else:
            self._gone(uid)

    def _take(self, task: dict[str, Any], *, deleted: bool = False) -> None:
        uid = task["metadata"]["uid"]
        if not deleted and _version(task) < self._oldest.get(uid, 0):
            return
        for seen in list(self._seen.get(uid, ())):
            seen(task)
        if TaskState(state_of(task)).terminal:
            self._remember(uid, task)
            self._settle(uid, task)
        elif deleted:
            self._gone(uid)
        else:
            self._recent.pop(uid, None)  # it runs again

    def _remember(self, uid: str, task: dict[str, Any]) -> None:
        self._recent[uid] = task
        self._recent.move_to_end(uid)
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def _gone(self, uid: str) -> None:
        if uid in self._names:
            self._settle(uid, TaskDeleted(f"task {self._names[uid]} was deleted before it ended"))

    def _settle(self, uid: str, outcome: dict[str, Any] | Exception) -> None:
        future = self._waiting.pop(uid, None)
        self._names.pop(uid, None)
        if future is None or future.done():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
            # Who waited may have been cancelled; then this error is of no interest.
            with contextlib.suppress(Exception):
                future.exception()
        else:
            future.set_result(outcome)

    def _fail(self, error: Exception) -> None:
        for uid in list(self._waiting):
            self._settle(uid, error)


def _version(task: Mapping[str, Any]) -> int:
    """Return the resourceVersion, which every server counts up (KEP-5504)."""
    return int(task["metadata"].get("resourceVersion") or 0)
