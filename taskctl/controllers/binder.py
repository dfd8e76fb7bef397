"""Writes placements into pods, and finds out what became of a write without an answer.

One strategic-merge PATCH per worker and batch, holding the new entries only, guarded by the
pod's UID and by nothing else: the kubelet writes the pod's status all the time, so a guard
by resourceVersion would mostly fail. The entries carry random nonces, so exactly this body
may be sent again (a repetition changes nothing), and another body for the same attempt is
refused once the first has arrived. What a refusal means is decided in
:mod:`taskctl.placement.refusals`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from taskctl.api.meta import ObjectKey
from taskctl.client.base import KubeObject, PatchOptions, PatchType
from taskctl.client.resources import PODS
from taskctl.client.timing import Backoff
from taskctl.constants import FIELD_MANAGER
from taskctl.controllers.pending import HoldKind
from taskctl.controllers.workerstate import Attempt, Worker
from taskctl.controllers.world import World
from taskctl.errors import ApiError, NotFound
from taskctl.placement.refusals import (
    Verdict,
    explain_forbidden,
    is_missing_right,
    judge_append,
)
from taskctl.placement.rest import gather_s
from taskctl.policy.entry import append_body
from taskctl.policy.lost import SHOW_SCHEDULED_AFTER_S

log = logging.getLogger(__name__)

_APPEND: Final = PatchOptions(
    type=PatchType.STRATEGIC,
    subresource="ephemeralcontainers",
    field_manager=FIELD_MANAGER,
    idempotent=True,
)
# A conflict comes of the server's own merging with the kubelet's writes; it tries five times.
_CONFLICTS: Final = 4
_PASSING: Final = frozenset({Verdict.UNKNOWN, Verdict.THROTTLED, Verdict.CONFLICT})
# Of a batch that was refused, so many in a row are refused alone before the rest has to wait.
_SINGLES: Final = 3
# From one batch for a worker to the next while more tasks wait than there are slots: the hop
# of a chain must not wait, but a crowd is served faster by fewer patches, as each carries and
# sends around the whole pod.
_GATHER_S: Final = 0.05
_COOL_S: Final = 1.0
_MAX_COOL_S: Final = 30.0
_MAX_DOUBLINGS: Final = 10


@dataclass(frozen=True, slots=True)
class Item:
    """One attempt to be written.

    Attributes:
        uid: the Task's UID.
        attempt: as the ledger assumes it.
        entry: the ephemeral container.
    """

    uid: str
    attempt: Attempt
    entry: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Attempts for one worker.

    Attributes:
        cluster: key of the TaskCluster.
        worker: where to.
        items: at least one.
    """

    cluster: ObjectKey
    worker: Worker
    items: list[Item]


class Binder:
    """Writes batches.

    Args:
        world: caches, indexes, queues, client.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    async def bind(self, batch: Batch) -> None:
        """Write a batch and settle each of its assumptions; raises nothing but cancellation."""
        worker, now_s = batch.worker, self._world.now_s()
        worker.gather_until_s = now_s + gather_s(len(worker.unreported))
        try:
            await self._append(worker, batch.items)
        except Exception as error:  # the task of a batch has no one else to report to
            log.exception("worker %s: placing failed unexpectedly", worker.pod.name)
            self._give_back(worker, batch.items, str(error), HoldKind.FAILED)
        finally:
            worker.in_flight = False
            self._world.wakeups.wake(batch.cluster)
            if self._world.pending.length(batch.cluster):
                self._rest_until(worker, now_s + _GATHER_S)
            self._wake_at(worker, worker.gather_until_s)

    async def _append(self, worker: Worker, items: Sequence[Item]) -> None:
        pod = worker.pod
        body = append_body(pod.uid, [item.entry for item in items])
        backoff = Backoff(self._world.timing, initial_s=0.05, cap_s=1.0)
        for attempt in range(1, _CONFLICTS + 1):
            try:
                stored = await self._world.client.patch(
                    PODS, pod.name, pod.namespace, body, options=_APPEND
                )
            except ApiError as error:
                verdict = judge_append(error)
                if verdict is not Verdict.CONFLICT or attempt == _CONFLICTS:
                    await self._refused(worker, items, error, verdict)
                    return
                await self._world.timing.sleep(backoff.next_s())
            else:
                worker.failures = 0
                self._confirm(worker, items)
                self._world.stores.pods.observe(stored)
                return

    async def _refused(
        self, worker: Worker, items: Sequence[Item], error: ApiError, verdict: Verdict
    ) -> None:
        level = logging.INFO if verdict in _PASSING else logging.WARNING
        log.log(
            level, "worker %s, %d containers: %s: %s", worker.pod.name, len(items), verdict, error
        )
        match verdict:
            case Verdict.UNKNOWN:
                self._failed(worker, await self._confirm_present(worker, items), error)
            case Verdict.ENTRY:
                # Also what another controller's entry of the same name looks like, and a pod
                # that was made again under the same name.
                left = await self._confirm_present(worker, items)
                await self._blame(worker, left, error, verdict, alone=len(items) == 1)
            case Verdict.FORBIDDEN if is_missing_right(error):
                self._cool(worker, error)
                self._give_back(worker, items, explain_forbidden(error), HoldKind.FORBIDDEN)
            case Verdict.FORBIDDEN | Verdict.TOO_LARGE:
                await self._blame(worker, items, error, verdict, alone=len(items) == 1)
            case _:
                self._failed(worker, items, error)

    async def _blame(
        self,
        worker: Worker,
        items: Sequence[Item],
        error: ApiError,
        verdict: Verdict,
        *,
        alone: bool,
    ) -> None:
        """Find the entry that is at fault, so that it does not hold up the others."""
        if not alone:
            await self._one_by_one(worker, items, error)
        elif verdict is Verdict.FORBIDDEN:
            self._give_back(worker, items, explain_forbidden(error), HoldKind.FORBIDDEN)
        elif verdict is Verdict.TOO_LARGE and len(worker.names) > 1:
            self._too_large(worker, items)
        else:  # on a pod with nothing else in it, size is the entry's own fault too
            self._give_back(worker, items, str(error), HoldKind.INVALID)

    async def _one_by_one(self, worker: Worker, items: Sequence[Item], error: ApiError) -> None:
        """Append each by itself; give up when it seems that none will pass."""
        failed = 0
        for position, item in enumerate(items):
            if worker.full:
                self._undo(worker, items[position:])
                return
            if failed >= _SINGLES:
                self._give_back(worker, items[position:], str(error), HoldKind.FAILED)
                return
            await self._append(worker, [item])
            failed = 0 if not item.attempt.assumed else failed + 1

    def _too_large(self, worker: Worker, items: Sequence[Item]) -> None:
        """The pod takes no more: it is worn out, and the tasks go elsewhere at once."""
        log.warning("worker %s is full with %d containers", worker.pod.name, len(worker.names))
        worker.full = True
        cluster = self._world.cluster_key(worker.pod.cluster_uid)
        if cluster is not None:
            self._world.queues.clusters.add(cluster)
        self._undo(worker, items)

    def _failed(self, worker: Worker, items: Sequence[Item], error: ApiError) -> None:
        if items:
            self._cool(worker, error)
            self._give_back(worker, items, str(error), HoldKind.FAILED)

    async def _confirm_present(self, worker: Worker, items: Sequence[Item]) -> list[Item]:
        """Settle the items that are in the pod, or whose pod is gone; return the others."""
        pod = await self._read_pod(worker)
        if pod is None:
            self._undo(worker, items)
            return []
        present = {entry["name"] for entry in pod["spec"].get("ephemeralContainers") or ()}
        self._confirm(worker, [item for item in items if item.attempt.container in present])
        self._world.stores.pods.observe(pod)
        return [item for item in items if item.attempt.container not in present]

    async def _read_pod(self, worker: Worker) -> KubeObject | None:
        """Read the pod, for as long as it takes to get an answer; None: it is gone."""
        backoff = Backoff(self._world.timing, initial_s=0.2, cap_s=10.0)
        while True:
            try:
                pod = await self._world.client.get(PODS, worker.pod.name, worker.pod.namespace)
            except NotFound:
                return None
            except ApiError as error:
                log.info("worker %s cannot be read: %s", worker.pod.name, error)
                await self._world.timing.sleep(max(error.retry_after_s, backoff.next_s()))
                continue
            return pod if pod["metadata"].get("uid") == worker.pod.uid else None

    # --- assumptions --------------------------------------------------------------------

    def _confirm(self, worker: Worker, items: Sequence[Item]) -> None:
        for item in items:
            self._world.ledger.confirm(worker, item.attempt)
            self._world.pending.release(item.uid)
            # Should it not be claimed by then, its state is shown and its deadline watched.
            self._world.queues.tasks.add_after(item.attempt.task, SHOW_SCHEDULED_AFTER_S)

    def _undo(self, worker: Worker, items: Sequence[Item]) -> None:
        for item in items:
            self._world.ledger.undo(worker, item.attempt)

    def _give_back(
        self, worker: Worker, items: Sequence[Item], message: str, kind: HoldKind
    ) -> None:
        now_s = self._world.now_s()
        for item in items:
            if item.attempt.assumed:
                self._world.pending.hold(item.uid, now_s, message, kind)
        self._undo(worker, items)

    def _cool(self, worker: Worker, error: ApiError) -> None:
        """Leave the worker alone for a while, then have the scheduler look again."""
        timing = self._world.timing
        worker.failures += 1
        wait_s = min(_COOL_S * 2.0 ** min(worker.failures - 1, _MAX_DOUBLINGS), _MAX_COOL_S)
        wait_s = max(wait_s, error.retry_after_s) * (1.0 + 0.25 * timing.random())
        self._rest_until(worker, self._world.now_s() + wait_s)

    def _rest_until(self, worker: Worker, until_s: float) -> None:
        """Give the worker no batch before then; have the scheduler look again at that time."""
        worker.cool_until_s = max(worker.cool_until_s, until_s)
        self._wake_at(worker, until_s)

    def _wake_at(self, worker: Worker, at_s: float) -> None:
        timing, cluster = self._world.timing, self._world.cluster_key(worker.pod.cluster_uid)
        if cluster is not None:
            # A little later, as timers may ring early.
            delay_s = max(at_s - self._world.now_s(), 0.0) + 0.01
            timing.call_later(delay_s, lambda: self._world.wakeups.wake(cluster))
