"""What may be asked of the agent, whoever carries the question."""

from __future__ import annotations

import asyncio
import collections
import hmac
import logging
from dataclasses import dataclass
from typing import Any, Final, Protocol

from taskctl.agent import fields
from taskctl.agent.children import Children
from taskctl.agent.claims import Claims, exit_message
from taskctl.agent.context import Context
from taskctl.agent.exits import Exit, parse_exit
from taskctl.agent.fields import bad
from taskctl.agent.handovers import Handovers
from taskctl.agent.journal import ToldRun
from taskctl.agent.objects import ObjectStore
from taskctl.agent.outcomes import Outcomes
from taskctl.agent.outputs import Outputs
from taskctl.agent.podspec import OwnPod, ParkedEntry, PodEntry
from taskctl.agent.preparations import Preparations
from taskctl.agent.progress import ProgressWriter
from taskctl.agent.refusals import ErrorCode, Refusal, from_api
from taskctl.agent.results import Results
from taskctl.agent.runmessage import micros
from taskctl.agent.runs import Link, Run, RunPhase, StopReason
from taskctl.agent.stops import Stops
from taskctl.agent.waits import Waits
from taskctl.constants import INLINE_LIMIT_BYTES, SMALL_VALUE_BYTES
from taskctl.errors import ApiError, NotFound
from taskctl.policy.prepare import Preparation
from taskctl.policy.spawnrate import spawn_rate
from taskctl.policy.view import parse_task
from taskctl.wire import VERSION, Message

logger = logging.getLogger(__name__)

MAX_NAME_CHARS: Final = 63  # of a container: a DNS label
MAX_SECRET_CHARS: Final = 512
MAX_ATTACHED: Final = 64  # connections of one task
# Longer than taskctl-init takes to connect again, and than a record takes to be found.
GONE_AFTER_S: Final = 5.0


class InitLink(Link, Protocol):
    """The connection of a container's taskctl-init, as the service keeps it."""

    def abort(self) -> None:
        """Close at once."""
        ...


@dataclass(frozen=True, slots=True)
class Hello:
    """A taskctl-init that has proved for which container it speaks.

    Attributes:
        container: its container.
        response: what it is answered.
        running: the run that goes on there; None if none does.
    """

    container: str
    response: Message
    running: Run | None


class Service:
    """The agent's doings, one method per request.

    Args:
        context: of the agent.
        pod: entries of the own pod.
        handovers: what parked containers are to run.
        stops: stops runs.
        prepared: what was prepared in parked containers before this agent was started.
    """

    def __init__(
        self,
        context: Context,
        pod: OwnPod,
        handovers: Handovers,
        stops: Stops,
        prepared: dict[str, Preparation],
    ) -> None:
        self._handovers = handovers
        self._context = context
        self.meters = context.meters
        self._pod = pod
        self._stops = stops
        objects = ObjectStore(context)
        self.outputs = Outputs(context, objects)
        self.children = Children(context, objects)
        self.progress = ProgressWriter(context)
        self.waits = Waits(context)
        self.results = Results(context, objects, self.waits)
        self.outcomes = Outcomes(context, self.outputs, (self.progress, self.waits))
        self._links: dict[str, InitLink] = {}
        self._preparations = Preparations(context, pod, handovers, self._push, prepared)
        self.claims = Claims(context, pod, handovers, self._preparations)
        self._attached: collections.Counter[str] = collections.Counter()

    # --- taskctl-init -----------------------------------------------------------------
    async def hello(self, message: Message) -> Hello:
        """Check who speaks.

        Raises:
            Refusal: ``version``, ``unknown_container``, ``nonce_used``, ``bad_token``,
                ``superseded`` (what it says it runs is not what it was told) or
                ``bad_request``.
        """
        check_version(message)
        container = fields.text(message, "container", max_chars=MAX_NAME_CHARS)
        token = fields.optional_text(message, "token", max_chars=MAX_SECRET_CHARS)
        nonce = fields.optional_text(message, "nonce", max_chars=MAX_SECRET_CHARS)
        if bool(token) == bool(nonce):
            raise bad("nonce", "give either nonce (the first time) or token (later)")
        if token:
            if not self._context.tokens.is_container(container, token):
                raise Refusal(ErrorCode.BAD_TOKEN, f"this is not the token of {container}")
        else:
            await self._spend(container, nonce)
        running = await self._running(container, message.get("running"))
        response: Message = {"token": self._context.tokens.for_container(container)}
        return Hello(container, response, running)

    async def _spend(self, container: str, nonce: str) -> None:
        entry = await self._pod.entry(container)
        if not hmac.compare_digest(entry.nonce.encode(), nonce.encode()):
            logger.warning("hello with a wrong nonce container=%s", container)
            raise Refusal(ErrorCode.UNKNOWN_CONTAINER, f"this is not the nonce of {container}")
        if not await asyncio.to_thread(self._context.journal.use_nonce, container):
            logger.warning("hello with a spent nonce container=%s", container)
            raise Refusal(
                ErrorCode.NONCE_USED,
                f"the nonce of {container} was used before: the container was started again, or "
                "the first answer was lost",
            )

    async def _running(self, container: str, value: Any) -> Run | None:
        """Return the run that a container says goes on in it."""
        if value is None:
            return None
        running = fields.mapping(value, "running")
        uid = fields.text(running, "uid", max_chars=128, where="running.")
        attempt = fields.integer(running, "attempt", low=1)
        run = await self._known_run(container, uid, attempt)
        if run is None or run.phase is not RunPhase.RUNNING:
            raise Refusal(
                ErrorCode.SUPERSEDED, f"{container} was not told to run attempt {attempt} of {uid}"
            )
        return run

    async def _known_run(self, container: str, uid: str, attempt: int) -> Run | None:
        """Return the run of a container if it is that attempt.

        Where the journal was lost, the pod's spec says what the container is for; whether it
        still counts is for the Task's status to say.
        """
        run = self._context.runs.get(container)
        if run is None:
            entry = await self._pod.entry(container)
            if isinstance(entry, ParkedEntry):
                given = await self._handovers.known(entry)
                if given is None:
                    return None
                entry = given
            if entry.claim.task_uid == uid and entry.claim.attempt == attempt:
                run = await self._adopt(entry)
        if run is None or run.told.uid != uid or run.told.attempt != attempt:
            return None
        return run

    async def _adopt(self, entry: PodEntry) -> Run:
        workspace = self._context.workspace if entry.writes_workspace else None
        uid, attempt = entry.claim.task_uid, entry.claim.attempt
        told = ToldRun(
            container=entry.claim.container,
            task=entry.task,
            uid=uid,
            attempt=attempt,
            started_us=0,
            record=workspace.record_path(uid, attempt) if workspace else "",
        )
        await asyncio.to_thread(self._context.journal.tell, told)
        run = Run(told=told, claim=entry.claim, recovered=True, spawned=True, has_old_output=True)
        self._context.runs.add(run)
        logger.warning("taken over without a journal %s", run.label)
        return run

    async def next(self, container: str) -> Message:
        """Answer ``next``; see :meth:`Claims.next`."""
        known = self._context.runs.get(container)
        answer = await self.claims.next(container)
        run = self._context.runs.get(container)
        if known is None and run is not None:
            self.outputs.read_ahead(run)
        return answer

    async def exited(self, container: str, message: Message) -> Message:
        """Record an exit; answers when the outcome is recorded, or nobody wants it.

        Raises:
            Refusal: ``bad_request``: it is not the run that this container was told.
        """
        exit_ = parse_exit(message)
        run = await self._known_run(container, exit_.uid, exit_.report.attempt)
        if run is None:
            raise bad("uid", f"{container} was not told to run that attempt of that task")
        self._preparations.ended(container, exit_.prepared)
        return exit_message(await self.outcomes.record(run, exit_))

    async def deliver(self, run: Run, exit_: Exit) -> None:
        """Record an exit that was found in the workspace."""
        logger.info("delivering an exit record %s", run.label)
        await self.outcomes.record(run, exit_)

    # --- who is connected ---------------------------------------------------------------
    def greet(self, container: str, link: InitLink) -> None:
        """Take a container's new connection in place of an older one."""
        older = self._links.get(container)
        self._links[container] = link
        if older is not None and older is not link:
            older.abort()

    def connect(self, container: str, link: InitLink) -> None:
        """Let pushes reach a container's run: taskctl-init knows of it by now."""
        run = self._context.runs.get(container)
        if (
            run is None
            or run.phase is not RunPhase.RUNNING
            or self._links.get(container) is not link
        ):
            return
        run.link = link
        run.link_lost_s = None
        self._stops.connected(run)
        if run.recovered:
            self.waits.check(run)

    def disconnect(self, container: str, link: InitLink) -> None:
        """Note that a connection is gone."""
        if self._links.get(container) is not link:
            return
        del self._links[container]
        run = self._context.runs.get(container)
        if run is not None:
            run.link = None
            run.link_lost_s = self._context.timing.clock.monotonic_s()

    def _push(self, container: str, message: Message) -> None:
        link = self._links.get(container)
        if link is not None:
            link.push(message)

    def is_connected(self, container: str) -> bool:
        """Whether a container's taskctl-init has a connection."""
        return container in self._links

    def is_busy(self) -> bool:
        """Whether an exit may still come in, or is being written.

        Not for runs that have had no connection for a while and left no record: their
        containers are gone, and the controller knows.
        """
        now_s = self._context.timing.clock.monotonic_s()
        return bool(self._links) or any(
            run.phase is RunPhase.ENDED
            or run.link_lost_s is None
            or now_s - run.link_lost_s < GONE_AFTER_S
            for run in self._context.runs.unreported()
        )

    # --- tasks --------------------------------------------------------------------------
    async def attach(self, message: Message) -> tuple[Run, Message]:
        """Check which run a user process belongs to.

        Raises:
            Refusal: ``version``, ``bad_token``, ``superseded``, ``limit`` (of connections) or
                ``bad_request``.
        """
        check_version(message)
        token = fields.text(message, "token", max_chars=MAX_SECRET_CHARS)
        tokens = self._context.tokens
        run = self._context.runs.get(tokens.container_of(token))
        if run is None or not tokens.is_task(
            token,
            container=run.told.container,
            task_uid=run.told.uid,
            attempt=run.told.attempt,
        ):
            raise Refusal(ErrorCode.BAD_TOKEN, "this is no token of a run on this worker")
        run.check_running()
        if self._attached[run.told.container] >= MAX_ATTACHED:
            raise Refusal(
                ErrorCode.LIMIT, f"the task has {MAX_ATTACHED} connections open; close some"
            )
        try:
            view = parse_task(await self._context.task_of(run))
        except NotFound:
            raise Refusal(ErrorCode.SUPERSEDED, f"task {run.told.task} is gone") from None
        except ApiError as error:
            raise from_api(error) from error
        self._attached[run.told.container] += 1
        rate = spawn_rate(view)
        return run, {
            "task": run.told.task,
            "namespace": self._context.namespace,
            "uid": run.told.uid,
            "attempt": run.told.attempt,
            "root": view.root_name,
            "parent": view.parent_name,
            "depth": view.depth,
            "workspace": self._context.workspace_path,
            "inline_limit": INLINE_LIMIT_BYTES,
            "small_limit": SMALL_VALUE_BYTES,
            "cluster": self._context.settings.cluster,
            **({} if rate is None else {"spawn_burst": rate.burst}),
        }

    def detach(self, run: Run) -> None:
        """Note that a connection of a user process is gone."""
        self._attached[run.told.container] -= 1

    def info(self, run: Run) -> Message:
        """Return whether the run shall stop, and when it must have ended."""
        told = run.told
        deadline_us = told.started_us + told.timeout_ms * 1000 if told.timeout_ms else 0
        return {"cancel": self._stop_reason(run), "deadline_us": deadline_us}

    def _stop_reason(self, run: Run) -> str:
        """Return why a run is being stopped, also where taskctl-init does it by itself."""
        if run.stop is not None:
            return run.stop.value
        if run.phase is not RunPhase.RUNNING:
            return ""
        if self._is_out_of_time(run):
            return StopReason.TIMEOUT.value
        return StopReason.WORKER_LOST.value if self.claims.closed else ""

    def _is_out_of_time(self, run: Run) -> bool:
        clock = self._context.timing.clock
        if run.deadline_s is not None:
            return clock.monotonic_s() >= run.deadline_s
        told = run.told
        if not (told.timeout_ms and told.started_us):
            return False
        return micros(clock.now()) >= told.started_us + told.timeout_ms * 1000


def check_version(message: Message) -> None:
    """Make sure that the peer speaks this protocol.

    Raises:
        Refusal: ``version``.
    """
    version = message.get("v")
    if version != VERSION or isinstance(version, bool):
        raise Refusal(ErrorCode.VERSION, f"protocol version {version!r} is not spoken here")
