"""``progress``: at most one status write a second and task; of several reports the last wins."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

from taskctl.agent import fields
from taskctl.agent.context import Context
from taskctl.agent.runs import Run, RunPhase
from taskctl.errors import ApiError, Conflict
from taskctl.safetext import visible
from taskctl.wire import Message

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0
MAX_MESSAGE_CHARS: Final = 1024


@dataclass(slots=True)
class _Pending:
    latest: dict[str, Any] | None
    writer: asyncio.Task[None]


class ProgressWriter:
    """Writes ``status.progress``.

    It is for people who look on, so a write that fails is not repeated: the next report, or
    the outcome, is better.

    Args:
        context: of the agent.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pending: dict[str, _Pending] = {}

    def report(self, run: Run, message: Message) -> None:
        """Take a report; does not wait for the write.

        Raises:
            Refusal: ``bad_request``, or ``superseded``.
        """
        progress = {
            "done": fields.integer(message, "done"),
            "total": fields.integer(message, "total", default=0),
            "message": visible(
                fields.optional_text(message, "message", max_chars=MAX_MESSAGE_CHARS)
            ),
        }
        run.check_running()
        pending = self._pending.get(run.told.container)
        if pending is not None:
            pending.latest = progress
            return
        name = f"progress {run.told.container}"
        writer = self._context.background.spawn(name, self._write_all(run))
        self._pending[run.told.container] = _Pending(progress, writer)

    async def stop(self, run: Run) -> None:
        """Drop what is not written yet, and wait until no write is under way."""
        pending = self._pending.pop(run.told.container, None)
        if pending is not None:
            pending.writer.cancel()
            await asyncio.wait([pending.writer])
            # A cancelled write may have been done: what we know of the Task may be old.
            run.task = None

    async def _write_all(self, run: Run) -> None:
        container = run.told.container
        try:
            while (progress := self._take(container)) is not None:
                await self._write(run, progress)
                await self._context.timing.sleep(INTERVAL_S)
        finally:
            self._pending.pop(container, None)

    def _take(self, container: str) -> dict[str, Any] | None:
        pending = self._pending.get(container)
        if pending is None:
            return None
        latest, pending.latest = pending.latest, None
        return latest

    async def _write(self, run: Run, progress: dict[str, Any]) -> None:
        context = self._context
        try:
            task = await context.task_of(run)
            for _ in range(2):
                if run.phase is not RunPhase.RUNNING or not context.is_ours(task, run):
                    return
                try:
                    run.keep(await context.swap_status(task, {"progress": progress}))
                    return
                except Conflict:
                    task = await context.read_task(run)
        except ApiError as error:
            run.task = None
            logger.info("progress not written %s: %s", run.label, error)
