"""Which runs wait for their children: ``status.waitingSince``.

A task that waits takes no slot, or a tree that is deeper than the slots would wait for itself.
So the agent says on the Task when it begins to wait and when it resumes, once each; a wait that
is over soon is not worth the writes, nor is the moment between two waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from taskctl.agent.context import Context
from taskctl.agent.runs import Run, RunPhase
from taskctl.clock import format_micro
from taskctl.errors import ApiError, Conflict, NotFound

logger = logging.getLogger(__name__)

SETTLE_S: Final = 0.25
NEVER_S: Final = float("-inf")


@dataclass(slots=True)
class _Wait:
    """What is known of one run.

    Attributes:
        requests: how many of its requests wait for children.
        began_s: when it began to wait, breaks that were soon over left out (monotonic).
        ended_s: when the last of its requests was answered (monotonic).
        told: what its status says; None: not known.
        stirred: set with every change.
        writer: brings the status up to date.
    """

    told: bool | None
    requests: int = 0
    began_s: float = NEVER_S
    ended_s: float = NEVER_S
    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    writer: asyncio.Task[None] | None = None

    def count(self, change: int, now_s: float) -> None:
        """Note that a request begins (1) or is answered (-1)."""
        was, self.requests = self.requests, self.requests + change
        if was == 0 and now_s >= self.ended_s + SETTLE_S:
            self.began_s = now_s
        if self.requests == 0:
            self.ended_s = now_s
        self.stirred.set()

    def due(self, now_s: float) -> tuple[bool, float | None]:
        """Return what the status should say, and in how many seconds that is certain.

        None: nothing is to be done until something happens.
        """
        if self.requests:
            return True, None if self.told else max(0.0, self.began_s + SETTLE_S - now_s)
        left_s = self.ended_s + SETTLE_S - now_s
        return False, None if self.told is False else max(0.0, left_s)


class Waits:
    """Writes ``status.waitingSince``.

    Args:
        context: of the agent.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waits: dict[str, _Wait] = {}

    @contextlib.contextmanager
    def waiting(self, run: Run) -> Iterator[None]:
        """Hold this while a request of a run waits for its children."""
        wait = self._of(run)
        clock = self._context.timing.clock
        wait.count(1, clock.monotonic_s())
        try:
            yield
        finally:
            wait.count(-1, clock.monotonic_s())

    def check(self, run: Run) -> None:
        """Correct what a killed agent has left in the status of a run that goes on."""
        self._of(run)

    async def stop(self, run: Run) -> None:
        """Write nothing more of a run, and wait until no write is under way."""
        wait = self._waits.pop(run.told.container, None)
        if wait is not None and wait.writer is not None:
            wait.writer.cancel()
            await asyncio.wait([wait.writer])
            run.task = None  # a cancelled write may have been done

    def _of(self, run: Run) -> _Wait:
        container = run.told.container
        wait = self._waits.get(container)
        if wait is None:
            wait = self._waits[container] = _Wait(None if run.recovered else False)
            name = f"waits of {container}"
            wait.writer = self._context.background.spawn(name, self._follow(run, wait))
        return wait

    async def _follow(self, run: Run, wait: _Wait) -> None:
        timing, failures = self._context.timing, 0
        while run.phase is RunPhase.RUNNING:
            waits, left_s = wait.due(timing.clock.monotonic_s())
            if left_s is None:
                wait.stirred.clear()
                await wait.stirred.wait()
                continue
            if left_s > 0:
                await timing.sleep(left_s)
                continue
            try:
                await self._write(run, wait, waits)
                failures = 0
            except NotFound:
                return
            except ApiError as error:
                run.task = None
                failures += 1
                logger.info("wait not noted yet %s: %s", run.label, error)
                await self._context.retrier.pause(failures, error)

    async def _write(self, run: Run, wait: _Wait, waits: bool) -> None:
        context = self._context
        task = await context.task_of(run)
        if not context.is_ours(task, run):
            task = await context.read_task(run)
            if not context.is_ours(task, run):
                raise NotFound("another attempt has taken the place of this one", status=404)
        if bool(task["status"].get("waitingSince")) is not waits:
            now = format_micro(context.timing.clock.now())
            try:
                patch = {"waitingSince": now if waits else None}
                run.keep(await context.swap_status(task, patch))
            except Conflict:
                await context.read_task(run)
                raise
        wait.told = waits
