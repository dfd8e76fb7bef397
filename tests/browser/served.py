"""The page's server on rows that a test makes up."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from taskctl.clock import SystemClock
from taskctl.embedded.listening import bind
from taskctl.errors import NotFound
from taskctl.history.lines import Transition, decode, encode
from taskctl.history.reading import Newest
from taskctl.ui.earlier import Earlier
from taskctl.ui.feed import FeedRows
from taskctl.ui.guard import Guard
from taskctl.ui.model import Row, row_of
from taskctl.ui.ops import LogText, TaskRef
from taskctl.ui.server import PageServer

Object = dict[str, Any]


@dataclass
class MadeUp:
    """Rows without an API server."""

    tasks: FeedRows = field(default_factory=FeedRows)
    clusters: FeedRows = field(default_factory=FeedRows)
    problem: str = ""


@dataclass
class MadeUpOps:
    """Single tasks without an API server."""

    raw: dict[str, Object] = field(default_factory=dict)
    logs: dict[str, bytes] = field(default_factory=dict)
    done: list[tuple[str, str]] = field(default_factory=list)

    async def get(self, ref: TaskRef) -> Object:
        return self.raw[ref.uid]

    async def log(self, ref: TaskRef, attempt: int | None) -> LogText:
        del attempt
        if ref.uid not in self.logs:
            raise NotFound(f"{ref.name} has no log")
        return LogText(self.logs[ref.uid])

    async def cancel(self, ref: TaskRef) -> None:
        self.done.append(("cancel", ref.name))

    async def retry(self, ref: TaskRef) -> None:
        self.done.append(("retry", ref.name))


@dataclass
class MadeUpHistory:
    """Tasks that are gone, without a history; the newest first."""

    tasks: list[Object] = field(default_factory=list)
    more: bool = False
    reads: int = 0

    async def newest(self, limit: int) -> tuple[str, Newest[Row]]:
        self.reads += 1
        rows = [row_of(task) for task in self.tasks[:limit]]
        return "a history", Newest(rows, self.more or len(self.tasks) > limit)


def gone(task: Object, at: datetime) -> Object:
    """Return a Task as the history has it, deleted at a time."""
    return decode(encode(Transition(task=task, at=at, deleted=True), sequence=1))


@dataclass
class Served:
    """A page that is being served.

    Attributes:
        url: with the token.
        rows: change them, and the page changes.
        ops: what the page asked for.
        guard: of the server.
        history: what is gone.
    """

    url: str
    rows: MadeUp
    ops: MadeUpOps
    guard: Guard
    history: MadeUpHistory

    def put(self, tasks: Iterable[Object]) -> None:
        """Show tasks, new or changed."""
        for task in tasks:
            self.ops.raw[task["metadata"]["uid"]] = task
            self.rows.tasks.put(row_of(task))

    def put_gone(self, tasks: Iterable[Object]) -> None:
        """Record tasks that are gone, the newest first."""
        for task in tasks:
            self.ops.raw[task["metadata"]["uid"]] = task
            self.history.tasks.append(task)


@contextlib.asynccontextmanager
async def served(tasks: Iterable[Object] = (), *, write: bool = False) -> AsyncIterator[Served]:
    """Serve the page of some tasks."""
    with bind("127.0.0.1", 0) as listener:
        port = int(listener.getsockname()[1])
        guard = Guard("the-token", port, write=write)
        rows, ops = MadeUp(), MadeUpOps()
        history = MadeUpHistory()
        earlier = Earlier(history, SystemClock())
        server = PageServer(guard, rows, ops, title="test", earlier=earlier)
        found = Served(f"http://127.0.0.1:{port}/#the-token", rows, ops, guard, history)
        found.put(tasks)
        await server.start(listener)
        try:
            yield found
        finally:
            await server.stop()
