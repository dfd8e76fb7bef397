"""Runs the placement machine: hands events to it, carries out what it wants done."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from taskctl.backoff import Backoff
from taskctl.constants import FIELD_MANAGER, Reason
from taskctl.controllers.cachedapi import CachedApi
from taskctl.controllers.news import News
from taskctl.controllers.queues import SHORTEST_LOOK_S, Queues
from taskctl.errors import AlreadyExists, ApiError, NotFound
from taskctl.kube.interface import KubeObject, PatchOptions, PatchType
from taskctl.kube.resources import LEASES, PODS
from taskctl.kube.timing import Pauses, TimerHandle
from taskctl.placement import events as ev
from taskctl.placement.instructions import (
    Append,
    HandOver,
    Instruction,
    Log,
    LogSeverity,
    LookAtCluster,
    LookAtTask,
    ReadPod,
    ReleasePod,
    TellLimit,
    TellLoss,
    WakeAt,
)
from taskctl.placement.machine import COALESCE_S, PlacementMachine
from taskctl.placement.refusals import AppendVerdict, judge_append
from taskctl.policy.entry import append_body
from taskctl.policy.handover import build_record, record_changes

log = logging.getLogger(__name__)

_APPEND: Final = PatchOptions(
    type=PatchType.STRATEGIC,
    subresource="ephemeralcontainers",
    field_manager=FIELD_MANAGER,
    idempotent=True,
)
# The same entries again change nothing.
_RECORD: Final = PatchOptions(field_manager=FIELD_MANAGER, idempotent=True)
# A conflict comes of the server's own merging with the kubelet's writes; it tries five times.
_CONFLICTS: Final = 4
_CONFLICT_BACKOFF: Final = Backoff(0.05, 1.0, (1.0, 2.0))
_READ_BACKOFF: Final = Backoff(0.2, 10.0, (1.0, 2.0))
_LEVELS: Final = {LogSeverity.INFO: logging.INFO, LogSeverity.WARNING: logging.WARNING}


class WorkerEvent(StrEnum):
    """Reasons of Events on TaskClusters about their workers."""

    WORKER_LOST = "WorkerLost"


def new_nonce() -> str:
    """Return a one-time secret: 32 hexadecimal digits."""
    return secrets.token_hex(16)


class Placer:
    """The machine and its hands.

    Args:
        api: the API server and its caches.
        queues: keys to reconcile.
        news: tells people.
        nonce: draws a one-time secret.
        coalesce_s: pause between an event and the placing it causes, in seconds.

    Attributes:
        machine: to be asked; what it is to be told goes through :meth:`tell`.
    """

    def __init__(
        self,
        api: CachedApi,
        queues: Queues,
        news: News,
        *,
        nonce: Callable[[], str] = new_nonce,
        coalesce_s: float = COALESCE_S,
    ) -> None:
        self.machine = PlacementMachine(nonce, coalesce_s=coalesce_s)
        self._api = api
        self._queues = queues
        self._news = news
        self._alarm = asyncio.Event()
        self._timer: TimerHandle | None = None
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Place tasks until cancelled."""
        self._news.leading = True
        async with asyncio.TaskGroup() as group:
            self._group = group
            self.tell(ev.Led())
            while True:
                await self._alarm.wait()
                self._alarm.clear()
                self.tell(ev.TimeCame())

    def tell(self, event: ev.Event) -> None:
        """Have the machine take in an event, and carry out what it wants; never blocks."""
        for instruction in self.machine.handle(event, self._api.moment()):
            self._carry_out(instruction)

    def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case LookAtTask(task, after_s):
                self._queues.tasks.add_after(task, _after_s(after_s))
            case LookAtCluster(cluster, after_s):
                self._queues.clusters.add_after(cluster, _after_s(after_s))
            case ReleasePod(uid):
                self._queues.evidence.add(uid)
            case WakeAt(at_s):
                self._wake_at(at_s)
            case Append() | HandOver() | ReadPod():
                self._start(instruction)
            case TellLoss(cluster, message):
                found = self._api.caches.clusters.get(cluster)
                if found is not None and self._news.warn_seen(
                    found, WorkerEvent.WORKER_LOST, message
                ):
                    log.warning("%s: %s", cluster, message)
            case TellLimit(root, message):
                found = self._api.caches.tasks.get(root)
                if found is not None:
                    self._news.note(found, Reason.LIVE_TASKS_LIMIT, message)
            case Log(level, message):
                log.log(_LEVELS[level], "%s", message)

    def _wake_at(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(at_s - self._api.now_s(), 0.0)
        self._timer = self._api.timing.call_later(delay_s, self._alarm.set)

    # --- batches ------------------------------------------------------------------------

    def _start(self, instruction: Append | HandOver | ReadPod) -> None:
        if self._group is None:
            raise RuntimeError("the placement machine wants to write before it may")
        self._group.create_task(
            self._write(instruction), name=f"{type(instruction).__name__}-{instruction.pod}"
        )

    async def _write(self, instruction: Append | HandOver | ReadPod) -> None:
        """Send a batch, or read its pod, and tell; raises nothing but cancellation."""
        number = instruction.batch
        try:
            if isinstance(instruction, HandOver):
                self.tell(await self._hand_over(instruction))
                return
            if isinstance(instruction, Append):
                answer, pod = await self._append(instruction)
            else:
                answer, pod = await self._read(instruction)
            self.tell(answer)
            if pod is not None:
                self._api.caches.pods.observe(pod)
        except Exception as error:  # the task of a batch has no one else to report to
            log.exception("pod %s: placing failed unexpectedly", instruction.pod)
            self.tell(ev.BatchBroke(number, str(error)))

    async def _append(self, batch: Append) -> tuple[ev.Event, KubeObject | None]:
        body = append_body(batch.pod_uid, batch.entries)
        pauses = Pauses(_CONFLICT_BACKOFF, self._api.timing)
        for attempt in range(1, _CONFLICTS + 1):
            try:
                stored = await self._api.client.patch(
                    PODS, batch.pod.name, batch.pod.namespace, body, options=_APPEND
                )
            except ApiError as error:
                if judge_append(error) is not AppendVerdict.CONFLICT or attempt == _CONFLICTS:
                    jitter = self._api.timing.random()
                    return ev.BatchRefused(batch.batch, error, jitter), None
                await self._api.timing.sleep(pauses.next_s())
            else:
                return ev.BatchStored(batch.batch), stored
        raise AssertionError("the last try ends the loop")

    async def _hand_over(self, request: HandOver) -> ev.Event:
        """Change a worker's record, or make it."""
        namespace = request.pod.namespace
        try:
            try:
                stored = await self._patch_record(request)
            except NotFound:
                record = build_record(
                    request.pod, request.pod_uid, request.cluster_uid, request.changes
                )
                try:
                    stored = await self._api.client.create(LEASES, record, namespace)
                except AlreadyExists:  # made meanwhile: an answer was lost, or another controller
                    stored = await self._patch_record(request)
        except ApiError as error:
            return ev.BatchRefused(request.batch, error, self._api.timing.random())
        self._api.caches.records.observe(stored)
        return ev.BatchStored(request.batch)

    async def _patch_record(self, request: HandOver) -> KubeObject:
        body = record_changes(request.changes)
        return await self._api.client.patch(
            LEASES, request.record, request.pod.namespace, body, options=_RECORD
        )

    async def _read(self, request: ReadPod) -> tuple[ev.Event, KubeObject | None]:
        """Read the pod, for as long as it takes to get an answer."""
        pauses = Pauses(_READ_BACKOFF, self._api.timing)
        pod: KubeObject | None = None
        while True:
            try:
                pod = await self._api.client.get(PODS, request.pod.name, request.pod.namespace)
            except NotFound:
                pod = None
            except ApiError as error:
                log.info("worker %s cannot be read: %s", request.pod, error)
                await self._api.timing.sleep(max(error.retry_after_s, pauses.next_s()))
                continue
            break
        present: frozenset[str] | None = None
        if pod is not None and pod["metadata"].get("uid") == request.pod_uid:
            entries = pod["spec"].get("ephemeralContainers") or ()
            present = frozenset(entry["name"] for entry in entries)
        jitter = self._api.timing.random()
        return ev.BatchPodRead(request.batch, present, jitter), pod if present is not None else None


def _after_s(delay_s: float) -> float:
    """The rest that rounding may leave of a delay must not make a reconciler run in circles."""
    return max(delay_s, SHORTEST_LOOK_S) if delay_s > 0 else 0.0
