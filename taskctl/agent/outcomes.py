"""``exited``: the outcome of a run, written to the API server exactly once.

The write goes on whatever becomes of the connection that brought the news, and for as long
as the API server is away. It ends when the outcome is there, or when the Task says that this
run does not count any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from taskctl.agent.context import Context
from taskctl.agent.exits import Exit
from taskctl.agent.journal import ToldRun
from taskctl.agent.outputs import Outputs
from taskctl.agent.retry import is_worth_a_line
from taskctl.agent.runs import Run, RunPhase
from taskctl.agent.workspace import Workspace
from taskctl.backoff import Backoff
from taskctl.errors import ApiError, Conflict, NotFound
from taskctl.policy.outcome import ExitReport, Superseded, decide_after_exit

logger = logging.getLogger(__name__)

# A refusal that is not passing (RBAC taken away, a webhook) needs a person, who needs minutes.
_REFUSED: Final = Backoff(1.0, 30.0, (0.5, 1.5))
DROPPED: Final = "Dropped"  # counted among the states that were recorded


class StatusNotes(Protocol):
    """Something else that writes to the status of a run while it lasts."""

    async def stop(self, run: Run) -> None:
        """Write nothing more of a run, and wait until no write is under way."""
        ...


class Outcomes:
    """Records how runs ended.

    Args:
        context: of the agent.
        outputs: knows the output of a run.
        notes: their writes must not race with the outcome's.
    """

    def __init__(self, context: Context, outputs: Outputs, notes: Sequence[StatusNotes]) -> None:
        self._context = context
        self._outputs = outputs
        self._notes = notes

    async def record(self, run: Run, exit_: Exit) -> int:
        """Return what taskctl-init shall exit with, once the outcome is recorded or dropped.

        Called again for the same run it waits for the same write. Cancelling the caller does
        not cancel the write.
        """
        if run.phase is RunPhase.REPORTED:
            return run.exit_code
        if run.outcome is None:
            run.phase = RunPhase.ENDED
            self._outputs.forget(run)
            run.outcome = self._context.background.spawn(
                f"outcome {run.told.container}", self._record(run, exit_)
            )
        return await asyncio.shield(run.outcome)

    async def _record(self, run: Run, exit_: Exit) -> int:
        await self._settle(run)
        failures = 0
        while True:
            try:
                await self._write(run, exit_.report)
                break
            except NotFound:
                logger.info("outcome dropped, the task is gone %s", run.label)
                self._context.meters.outcomes[DROPPED] += 1
                break
            except Conflict:
                failures += 1
                run.task = None
                await self._context.retrier.pause(failures)
            except ApiError as error:
                failures += 1
                run.task = None  # the write may have been done
                await self._pause(run, error, failures)
            except Exception:
                # The last line: an exit must not get lost in a bug either.
                failures += 1
                run.task = None
                logger.exception("outcome not written, will repeat %s", run.label)
                await self._pause_long(failures)
        await self._close(run, exit_.exit_code)
        return exit_.exit_code

    async def _settle(self, run: Run) -> None:
        """Wait for what the run still has in flight: its children come before its outcome."""
        for notes in self._notes:
            await notes.stop(run)
        while run.writes:
            await asyncio.wait(run.writes)

    async def _write(self, run: Run, report: ExitReport) -> None:
        """Decide and write once; returns when the outcome is there or nobody wants it."""
        context = self._context
        cached = run.task is not None
        task = await context.task_of(run)
        if cached and not context.is_ours(task, run):
            # The copy may be older than our own claim.
            task = await context.read_task(run)
        if not context.is_ours(task, run):
            logger.info("outcome dropped, the run is superseded %s", run.label)
            context.meters.outcomes[DROPPED] += 1
            return
        output = await self._outputs.of(run)
        full = replace(
            report,
            output_object=(output.name or None) if output else None,
            output=output.value if output else None,
            # Of earlier attempts nothing is known here, nor of what a killed agent did.
            spawned=run.spawned or run.recovered or report.attempt > 1,
        )
        decision = decide_after_exit(
            task,
            run.told.container,
            full,
            context.timing.clock.now(),
            context.timing.random(),
        )
        if isinstance(decision, Superseded):
            logger.info("outcome dropped %s: %s", run.label, decision.reason)
            context.meters.outcomes[DROPPED] += 1
            return
        run.keep(await context.swap_status(task, decision.status_patch))
        state = decision.status_patch.get("state")
        context.meters.outcomes[str(state)] += 1
        logger.info("outcome recorded state=%s %s", state, run.label)

    async def _pause(self, run: Run, error: ApiError, failures: int) -> None:
        retrier = self._context.retrier
        if retrier.is_transient(error):
            if is_worth_a_line(failures):
                logger.warning("outcome not written yet, try %d %s: %s", failures, run.label, error)
            await retrier.pause(failures, error)
            return
        logger.error("the API server refuses the outcome, will repeat %s: %s", run.label, error)
        await self._pause_long(failures)

    async def _pause_long(self, failures: int) -> None:
        timing = self._context.timing
        await timing.sleep(_REFUSED.pause_s(failures, timing.random()))

    async def _close(self, run: Run, exit_code: int) -> None:
        context = self._context
        run.exit_code = exit_code
        run.phase = RunPhase.REPORTED
        run.task = None  # up to 1.5 MB; a worker has a hundred runs in its life
        try:
            await asyncio.to_thread(context.journal.report, run.told, exit_code)
            if context.workspace is not None and run.told.record:
                context.meters.log_bytes += await asyncio.to_thread(
                    _tidy, context.workspace, run.told
                )
        except OSError as error:
            # The outcome is safe; without the note it would be offered, and refused, once more.
            logger.warning("cannot note that the outcome is recorded %s: %s", run.label, error)


def _tidy(workspace: Workspace, told: ToldRun) -> int:
    """Remove the exit record; return the size of the log. Blocking."""
    workspace.remove_record(told.uid, told.attempt)
    return workspace.log_bytes(told.task, told.uid, told.attempt)
