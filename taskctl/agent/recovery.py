"""Exits that nobody told us of: records in the workspace.

taskctl-init writes a record before it reports. If it was killed in between, or the pod was
restarted, the record is all there is. It is read for runs of this worker that have no
connection; a run with neither is the controller's, which sees the dead container.

Other tasks write to the same directory. A record counts only with the key that this run's
taskctl-init was told and that no task can read before the record is there.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from taskctl.agent import fields
from taskctl.agent.context import Context
from taskctl.agent.exits import Exit, parse_exit
from taskctl.agent.refusals import Refusal
from taskctl.agent.runs import Run, RunPhase
from taskctl.agent.service import Service
from taskctl.errors import WireError
from taskctl.wire import decode_body

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 1.0
# taskctl-init connects again within a second; the controller gives a dead container five.
MISSED_FOR_S: Final = 2.0


class RecordDelivery:
    """Looks for exit records now and then.

    Args:
        context: of the agent.
        service: records exits.
    """

    def __init__(self, context: Context, service: Service) -> None:
        self._context = context
        self._service = service
        self._rejected: set[str] = set()

    async def run(self) -> None:
        """Look for records until cancelled."""
        while True:
            await self.look()
            await self._context.timing.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Deliver the records there are; does not wait for the outcomes."""
        now_s = self._context.timing.clock.monotonic_s()
        for run in self._context.runs:
            if not self._is_missed(run, now_s):
                continue
            exit_ = await self._read(run)
            if exit_ is not None and self._is_missed(run, now_s):
                self._context.background.spawn(
                    f"record {run.told.container}", self._service.deliver(run, exit_)
                )

    def _is_missed(self, run: Run, now_s: float) -> bool:
        container = run.told.container
        return (
            run.phase is RunPhase.RUNNING
            and run.outcome is None
            and bool(run.told.record)
            and not self._service.is_connected(container)
            and run.link_lost_s is not None
            and now_s - run.link_lost_s >= MISSED_FOR_S
        )

    async def _read(self, run: Run) -> Exit | None:
        workspace = self._context.workspace
        if workspace is None:
            return None
        uid, attempt = run.told.uid, run.told.attempt
        try:
            content = await asyncio.to_thread(workspace.read_record, uid, attempt)
            if content is None:
                return None
            message = decode_body(content)
            key = fields.optional_text(message, "key", max_chars=128)
            exit_ = parse_exit(message)
        except (OSError, WireError, Refusal) as error:
            self._reject(run, f"is of no use: {error}")
            return None
        if exit_.uid != uid or exit_.report.attempt != attempt:
            self._reject(run, "is of another run")
            return None
        container = run.told.container
        tokens = self._context.tokens
        if not tokens.is_record(key, container=container, task_uid=uid, attempt=attempt):
            self._reject(run, "was not written by its taskctl-init")
            return None
        return exit_

    def _reject(self, run: Run, why: str) -> None:
        """Say once what is wrong with a record; it may still be replaced by the right one."""
        if run.told.container not in self._rejected:
            self._rejected.add(run.told.container)
            logger.error("the exit record %s %s", why, run.label)
