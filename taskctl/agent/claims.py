"""``next``: which run, if any, a container is told to start.

The claim is a compare-and-swap on the Task's status. Whatever is started twice or late, one
claim per attempt wins, and only a winner is told to run.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskctl.agent.context import Context
from taskctl.agent.handovers import Handovers
from taskctl.agent.journal import ToldRun
from taskctl.agent.meters import ClaimOutcome
from taskctl.agent.podspec import OwnPod, ParkedEntry, PodEntry
from taskctl.agent.preparations import Preparations
from taskctl.agent.refusals import ErrorCode, Refusal, from_api
from taskctl.agent.runmessage import micros, run_message, timeout_ms
from taskctl.agent.runs import Run, RunPhase
from taskctl.api.resources import TASKS
from taskctl.errors import ApiError, Conflict, NotFound
from taskctl.policy.claim import AlreadyOurs, ClaimRefused, decide_claim, fresh_claim
from taskctl.policy.handover import NOT_BEGUN_CODE, class_of
from taskctl.policy.prepare import command_for
from taskctl.policy.status import status_body
from taskctl.policy.taskdefaults import filled
from taskctl.policy.view import parse_task, time_or_none, with_defaults
from taskctl.wire import Message

logger = logging.getLogger(__name__)

MAX_CONFLICTS: Final = 50


@dataclass(frozen=True, slots=True)
class _Won:
    """A claim that is in the API server.

    Attributes:
        task: as stored.
        started: when the attempt began.
    """

    task: dict[str, Any]
    started: datetime


def exit_message(code: int = 0) -> Message:
    """Return the instruction to exit."""
    return {"action": "exit", "code": code}


class Claims:
    """Answers ``next``.

    Args:
        context: of the agent.
        pod: entries of the own pod.
        handovers: what parked containers are to run.
        preparations: what was prepared in them.
    """

    def __init__(
        self, context: Context, pod: OwnPod, handovers: Handovers, preparations: Preparations
    ) -> None:
        self._context = context
        self._preparations = preparations
        self._pod = pod
        self._handovers = handovers
        self._handed_back: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = collections.defaultdict(asyncio.Lock)
        self.closed = False

    def close(self) -> None:
        """Claim nothing any more."""
        self.closed = True
        self._handovers.close()

    async def next(self, container: str) -> Message:
        """Return what a container's taskctl-init shall do.

        Asked again after a claim it answers with the same run: taskctl-init asks only while
        nothing runs that it started, and its token never leaves its memory, so the asker has
        not started it.

        Raises:
            Refusal: the pod has no such container, or the API server refuses.
        """
        async with self._locks[container]:
            run = self._context.runs.get(container)
            if run is not None:
                return await self._repeat(run)
            if self.closed:
                return exit_message()
            meters = self._context.meters
            entry = await self._pod.entry(container)
            parked = isinstance(entry, ParkedEntry)
            if isinstance(entry, ParkedEntry):
                given = await self._assigned(entry)
                if given is None:
                    return exit_message()
                entry = given
                meters.handovers += 1
            try:
                won = await self._claim_as_seen(entry)
                if won is None:
                    won = await self._claim(entry)
                elif not self._may_run(won.task, entry):
                    won = None
            except ApiError as error:
                raise from_api(error) from error
            if won is None:
                meters.claims[ClaimOutcome.LOST] += 1
                handed_back = container in self._handed_back
                return exit_message(NOT_BEGUN_CODE if handed_back else 0)
            meters.claims[ClaimOutcome.WON] += 1
            run = await self._tell(entry, won)
            meters.starts["standby" if parked else "own"] += 1
            self._learn(won.task)
            return run_message(self._context, run, won.task)

    async def _assigned(self, parked: ParkedEntry) -> PodEntry | None:
        """Wait, parked, for something to run; None: the container shall end."""
        try:
            return await self._handovers.assigned(parked)
        except OSError as error:
            logger.error("the state directory cannot be used: %s", error)
            raise Refusal(
                ErrorCode.UNAVAILABLE, f"the agent's state directory cannot be used: {error}"
            ) from error

    async def _repeat(self, run: Run) -> Message:
        if run.phase is not RunPhase.RUNNING:
            return exit_message(run.exit_code)
        try:
            task = await self._context.read_task(run)
        except NotFound:
            return exit_message()
        except ApiError as error:
            raise from_api(error) from error
        if not self._context.is_ours(task, run):
            return exit_message()
        logger.info("told again %s", run.label)
        return run_message(self._context, run, task)

    async def _claim_as_seen(self, entry: PodEntry) -> _Won | None:
        """Claim the version of the Task that the controller saw, by one request.

        Returns:
            None: it was not told, is outdated or does not fit here, or the answer is not known.
            The Task has to be read, and says what is the case.
        """
        context, claim, seen = self._context, entry.claim, entry.seen
        if seen is None or seen.fingerprint != entry.container_class:
            return None
        if not self._preparations.admits(claim.container, seen.command, seen.root_uid):
            return None
        now = context.timing.clock.now()
        guard = {"metadata": {"uid": claim.task_uid, "resourceVersion": seen.version}}
        body = status_body(guard, fresh_claim(seen.basis, claim, now))
        label = f"task={entry.task} attempt={claim.attempt} container={claim.container}"
        try:
            task = await context.client.patch_status(TASKS, entry.task, context.namespace, body)
        except ApiError as error:
            logger.debug("not claimed at once %s: %s", label, error)
            return None
        logger.info("claimed at once %s", label)
        return _Won(task, now)

    async def _claim(self, entry: PodEntry) -> _Won | None:
        """Swap the Task's status to Running; None if that is not, or no longer, ours to do."""
        context, claim = self._context, entry.claim
        label = f"task={entry.task} attempt={claim.attempt} container={claim.container}"
        conflicts = 0
        failures = context.retrier.failures()
        while True:
            try:
                task = await context.retrier.call(
                    f"read task {entry.task}",
                    lambda: context.client.get(TASKS, entry.task, context.namespace),
                )
                if not _fits(task, entry):
                    logger.error("not claimed %s: parked for tasks of another class", label)
                    return None
                now = context.timing.clock.now()
                decision = decide_claim(task, claim, now)
                match decision:
                    case ClaimRefused(reason):
                        logger.info("not claimed %s: %s", label, reason)
                        return None
                    case AlreadyOurs():
                        started = (task["status"].get("times") or {}).get("started")
                        return _Won(task, time_or_none(started) or now)
                if not self._admits(task, entry):
                    return None
                stored = await context.swap_status(task, decision.status_patch)
            except NotFound:
                logger.info("not claimed %s: the task is gone", label)
                return None
            except Conflict:
                conflicts += 1
                if conflicts >= MAX_CONFLICTS:
                    raise Refusal(
                        ErrorCode.UNAVAILABLE, f"task {entry.task} changes all the time"
                    ) from None
                await context.retrier.pause(conflicts)
            except ApiError as error:
                if not failures.may_pass(error):
                    raise
                # The write may have been done: read again, the policy tells.
                await context.retrier.pause(failures.count, error)
            else:
                logger.info("claimed %s", label)
                return _Won(stored, now)

    def _admits(self, task: dict[str, Any], entry: PodEntry) -> bool:
        """Whether what was prepared in a container lets the Task run there; else pass it on."""
        view = with_defaults(parse_task(task), entry.claim.defaults)
        digest, root_uid = command_for(view).digest, view.root_uid
        if self._preparations.admits(entry.claim.container, digest, root_uid):
            return True
        other = self._preparations.pass_on(entry, digest, root_uid)
        if other is None:
            self._handed_back.add(entry.claim.container)
        logger.info(
            "not claimed task=%s container=%s: a command of another tree was prepared there; "
            "passed on to %s",
            entry.task,
            entry.claim.container,
            other or "the controller",
        )
        return False

    def _may_run(self, task: dict[str, Any], entry: PodEntry) -> bool:
        """Whether a Task that is claimed is what the record said of it; no code runs if not.

        The controller says what it has read, so it always is, unless others write records.
        """
        view, container = parse_task(task), entry.claim.container
        digest = command_for(view).digest
        if _fits(task, entry) and self._preparations.admits(container, digest, view.root_uid):
            return True
        text = "claimed, but not run: the record does not say what task=%s is; container=%s"
        logger.error(text, entry.task, container)
        return False

    def _learn(self, task: dict[str, Any]) -> None:
        view = parse_task(task)
        fingerprint = class_of(view.spec).fingerprint
        self._preparations.started(fingerprint, command_for(view), view.root_uid)

    async def _tell(self, entry: PodEntry, won: _Won) -> Run:
        """Remember durably, before the answer goes out, that the run was told."""
        context, claim = self._context, entry.claim
        workspace = context.workspace if entry.writes_workspace else None
        uid, attempt = claim.task_uid, claim.attempt
        told = ToldRun(
            container=claim.container,
            task=entry.task,
            uid=uid,
            attempt=attempt,
            started_us=micros(won.started),
            timeout_ms=timeout_ms(won.task),
            log=workspace.log_path(entry.task, uid, attempt) if workspace else "",
            record=workspace.record_path(uid, attempt) if workspace else "",
        )
        if workspace is not None:
            # A task may have taken the directories away since; taskctl-init needs them now.
            await asyncio.to_thread(workspace.try_prepare)
        await asyncio.to_thread(context.journal.tell, told)
        run = Run(told=told, claim=claim, task=won.task)
        if told.timeout_ms:
            now_s = context.timing.clock.monotonic_s()
            run.deadline_s = now_s + told.timeout_ms / 1000  # taskctl-init's clock starts later
        context.runs.add(run)
        return run


def _fits(task: dict[str, Any], entry: PodEntry) -> bool:
    """Whether a container has what the Task's spec asks for; one of its own has."""
    spec = filled(task["spec"], entry.claim.defaults)
    return entry.container_class in ("", class_of(spec).fingerprint)
