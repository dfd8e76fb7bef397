"""How a run's children end: one watch per parent, and the order in which they ended.

A task that waits for its children asks with a cursor and is answered as soon as one more has
ended. So the number of children costs the API server nothing: there is no question per child.
The watch selects by ``spec.lineage.parentUID``, which cannot be changed, and lives only while
somebody asks.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from typing import Any, Final

from taskctl.agent import jsoncheck
from taskctl.agent.context import Context
from taskctl.agent.runs import Run, RunPhase
from taskctl.api.resources import TASKS
from taskctl.api.states import TaskState
from taskctl.constants import MESSAGE_LIMIT_CHARS
from taskctl.errors import ApiError
from taskctl.kube.informer import Informer, InformerOptions
from taskctl.kube.interface import KubeObject, ListOptions, ListPage
from taskctl.wire import Message

logger = logging.getLogger(__name__)

# Streams of one agent at a time. Further parents are served by a list every few seconds: they
# must be served, since those that hold a stream may be waiting for them.
MAX_STREAMS: Final = 64
LIST_PERIOD_S: Final = 2.0
IDLE_S: Final = 60.0  # without a question; the SDK asks again at least every 20 s
IDLE_POLL_S: Final = 10.0
_TERMINAL: Final = frozenset(state.value for state in TaskState if state.terminal)


class ChildWatch:
    """The children of one Task.

    Args:
        context: of the agent.
        uid: of the parent.
        known: names of children that exist, or existed, by UID.

    Attributes:
        epoch: names this life of the watch: a cursor of another one means nothing.
        used_s: when it was asked last (monotonic).
        waiting: how many requests wait for news.
    """

    def __init__(self, context: Context, uid: str, known: Mapping[str, str]) -> None:
        self.epoch = secrets.token_hex(8)
        self.used_s = context.timing.clock.monotonic_s()
        self.waiting = 0
        self._context = context
        self._known = dict(known)
        self._selector = f"spec.lineage.parentUID={uid}"
        self._informer = Informer(
            context.client,
            TASKS,
            context.namespace,
            options=InformerOptions(field_selector=self._selector),
            transform=_slim,
            timing=context.timing,
        )
        self._informer.add_handler(self._changed)
        self._log: list[Message] = []
        self._news = asyncio.Event()

    @property
    def synced(self) -> asyncio.Event:
        """Set once all children that exist are known."""
        return self._informer.synced

    def child(self, uid: str) -> KubeObject | None:
        """Return a child as last seen, without what nobody needs of it; None: not known."""
        return self._informer.store.get_by_uid(uid)

    async def run(self, streams: asyncio.Semaphore) -> None:
        """Follow the children until cancelled."""
        missing = asyncio.create_task(self._tell_missing())
        try:
            await self._follow(streams)
        finally:
            missing.cancel()
            await asyncio.gather(missing, return_exceptions=True)

    async def _tell_missing(self) -> None:
        """Tell of the children that were deleted before this watch began; it cannot see them.

        The informer's first list may be older than the youngest children, so a second one, which
        the API server answers with what is stored now, decides.
        """
        await self.synced.wait()
        store = self._informer.store
        missing = [uid for uid in self._known if store.get_by_uid(uid) is None]
        if not missing:
            return
        page = await self._context.retrier.call("list children", self._list)
        there = {task["metadata"]["uid"] for task in page.items}
        for uid in missing:
            if uid not in there and store.get_by_uid(uid) is None:
                self._note(_never_seen(uid, self._known[uid]))

    async def _list(self) -> ListPage:
        options = ListOptions(field_selector=self._selector)
        return await self._context.client.list_all(TASKS, self._context.namespace, options=options)

    async def _follow(self, streams: asyncio.Semaphore) -> None:
        while True:
            if not streams.locked():
                async with streams:
                    await self._informer.run()
            try:
                page = await self._list()
                self._informer.store.replace(page.items, page.resource_version)
                self._informer.synced.set()
            except ApiError as error:
                logger.warning("children cannot be listed: %s", error)
            timing = self._context.timing
            await timing.sleep(LIST_PERIOD_S * (0.5 + timing.random()))

    async def after(self, position: int, limit: int, wait_s: float) -> tuple[int, list[Message]]:
        """Return what ended after a position, and the position behind it.

        Args:
            position: 0, or what an earlier answer said.
            limit: so many at most.
            wait_s: how long to wait for the first one.
        """
        self.waiting += 1
        try:
            async with asyncio.timeout(wait_s):
                while len(self._log) <= position:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        finally:
            self.waiting -= 1
            self.used_s = self._context.timing.clock.monotonic_s()
        ended = self._log[position : position + limit]
        return min(position, len(self._log)) + len(ended), ended

    def _changed(self, old: KubeObject | None, new: KubeObject | None) -> None:
        if new is None:
            if old is not None and not _ended(old):
                self._note(_gone(old))
        elif _ended(new) and (old is None or not _ended(old)):
            self._note(_outcome(new))

    def _note(self, outcome: Message) -> None:
        self._log.append(outcome)
        self._news.set()


class ChildWatches:
    """The watches of all runs that wait for children.

    Args:
        context: of the agent.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._streams = asyncio.Semaphore(MAX_STREAMS)
        self._watches: dict[str, ChildWatch] = {}

    def of(self, run: Run) -> ChildWatch:
        """Return the watch of a run's children; starts it where there is none."""
        container = run.told.container
        watch = self._watches.get(container)
        if watch is None:
            watch = self._watches[container] = ChildWatch(self._context, run.told.uid, run.children)
            self._context.background.spawn(f"children of {container}", self._keep(run, watch))
        watch.used_s = self._context.timing.clock.monotonic_s()
        return watch

    async def _keep(self, run: Run, watch: ChildWatch) -> None:
        """Run a watch for as long as it is needed."""
        timing = self._context.timing
        following = asyncio.create_task(watch.run(self._streams))
        try:
            while run.phase is RunPhase.RUNNING and not following.done():
                idle_s = timing.clock.monotonic_s() - watch.used_s
                if not watch.waiting and idle_s >= IDLE_S:
                    break
                await timing.sleep(IDLE_POLL_S)
        finally:
            if self._watches.get(run.told.container) is watch:
                del self._watches[run.told.container]
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def _slim(task: KubeObject) -> KubeObject:
    """Keep of a child what its parent may be told: there may be ten thousand."""
    metadata, status = task["metadata"], task.get("status") or {}
    kept = ("state", "reason", "exitCode", "attempt", "outputObject")
    slim = {name: status[name] for name in kept if status.get(name) is not None}
    if status.get("output") is not None:
        slim["output"] = jsoncheck.compact(status["output"])  # 2 KiB at most
    if status.get("state") in _TERMINAL and status.get("message"):
        slim["message"] = str(status["message"])[:MESSAGE_LIMIT_CHARS]
    names = ("name", "namespace", "uid", "resourceVersion")
    return {"metadata": {name: metadata.get(name) for name in names}, "status": slim}


def _ended(task: KubeObject) -> bool:
    return task["status"].get("state") in _TERMINAL


def _outcome(task: KubeObject) -> Message:
    status = task["status"]
    return {
        "uid": task["metadata"]["uid"],
        "name": task["metadata"]["name"],
        "state": status["state"],
        "reason": status.get("reason", ""),
        "message": status.get("message", ""),
        "exit_code": status.get("exitCode"),
        "attempt": status.get("attempt", 0),
        "has_output": bool(status.get("outputObject") or status.get("output")),
    }


def _gone(task: KubeObject) -> Message:
    """Return the outcome of a child that was deleted before it ended.

    The watch selects by a field that cannot change, so what leaves it is deleted.
    """
    return _outcome(task) | {
        "state": "Deleted",
        "reason": "Deleted",
        "message": "The task was deleted before it ended.",
        "has_output": False,
    }


def _never_seen(uid: str, name: str) -> Message:
    """Return the outcome of a child that was deleted before its parent asked for it."""
    unknown = {"metadata": {"uid": uid, "name": name}, "status": {"state": ""}}
    message = "The task was deleted before its parent asked what became of it."
    return _gone(unknown) | {"message": message}


def outcome_of(task: dict[str, Any] | None) -> str:
    """Return the state of a child as kept here; empty: it is not known."""
    return "" if task is None else str(task["status"].get("state", ""))
