"""Writes placements into pods, and finds out what became of a write without an answer.

One strategic-merge PATCH per worker and batch, holding the new entries only, guarded by the
pod's UID and by nothing else: the kubelet writes the pod's status all the time, so a guard
by resourceVersion would mostly fail. The entries carry random nonces, so exactly this body
may be sent again (a repetition changes nothing), and another body for the same attempt is
refused once the first has arrived.
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
from taskctl.controllers.placements import Attempt, Worker
from taskctl.controllers.world import World
from taskctl.errors import ApiError, BadRequest, Invalid, NotFound, Throttled, Unavailable
from taskctl.policy.entry import append_body
from taskctl.policy.lost import SHOW_SCHEDULED_AFTER_S

log = logging.getLogger(__name__)

_APPEND: Final = PatchOptions(
    type=PatchType.STRATEGIC,
    subresource="ephemeralcontainers",
    field_manager=FIELD_MANAGER,
    idempotent=True,
)
_COOL_S: Final = 1.0


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
        try:
            await self._append(batch.worker, batch.items)
        except Exception as error:  # the task of a batch has no one else to report to
            log.exception("worker %s: placing failed unexpectedly", batch.worker.pod.name)
            self._give_back(batch.worker, batch.items, str(error), refused=False)
        finally:
            batch.worker.in_flight = False
            self._world.wakeups.wake(batch.cluster)

    async def _append(self, worker: Worker, items: Sequence[Item]) -> None:
        pod = worker.pod
        body = append_body(pod.uid, [item.entry for item in items])
        try:
            stored = await self._world.client.patch(
                PODS, pod.name, pod.namespace, body, options=_APPEND
            )
        except NotFound:
            self._undo(worker, items)
        except (Invalid, BadRequest) as error:
            await self._refused(worker, items, error)
        except Unavailable as error:
            log.info("worker %s: %s; reading the pod to find out", pod.name, error)
            await self._settle(worker, items, str(error))
        except ApiError as error:
            log.warning("worker %s refuses %d containers: %s", pod.name, len(items), error)
            self._cool(worker, error)
            self._give_back(worker, items, str(error), refused=False)
        else:
            self._confirm(worker, items)
            self._world.stores.pods.observe(stored)

    async def _refused(self, worker: Worker, items: Sequence[Item], error: ApiError) -> None:
        """The server called the patch invalid: find the entry that is to blame.

        Also what another controller's entry of the same name looks like, and a pod that
        was made again under the same name.
        """
        left = await self._confirm_present(worker, items)
        if not left:
            return
        if len(items) == 1:
            log.warning("container %s is refused: %s", left[0].attempt.container, error)
            self._give_back(worker, left, str(error), refused=True)
            return
        for item in left:
            await self._append(worker, [item])

    async def _settle(self, worker: Worker, items: Sequence[Item], message: str) -> None:
        """After a write without an answer: the pod's spec tells."""
        left = await self._confirm_present(worker, items)
        if left:
            self._cool(worker, None)
            self._give_back(worker, left, message, refused=False)

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
        self, worker: Worker, items: Sequence[Item], message: str, *, refused: bool
    ) -> None:
        now_s = self._world.now_s()
        for item in items:
            if item.attempt.assumed:
                self._world.pending.hold(item.uid, now_s, message, refused=refused)
        self._undo(worker, items)

    def _cool(self, worker: Worker, error: ApiError | None) -> None:
        """Leave the worker alone for a moment, then have the scheduler look again."""
        wait_s = _COOL_S
        if isinstance(error, Throttled):
            wait_s = max(wait_s, error.retry_after_s)
        worker.cool_until_s = self._world.now_s() + wait_s
        cluster = self._world.cluster_key(worker.pod.cluster_uid)
        if cluster is not None:
            # A little later than the end, as timers may ring early.
            self._world.timing.call_later(wait_s + 0.01, lambda: self._world.wakeups.wake(cluster))
