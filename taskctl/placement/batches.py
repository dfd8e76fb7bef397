"""Attempts on their way into a worker's spec, and what becomes of them with each answer.

One strategic-merge PATCH per worker and batch, holding the new entries only, guarded by the
pod's UID and by nothing else: the kubelet writes the pod's status all the time, so a guard
by resourceVersion would mostly fail. The entries carry random nonces, so exactly this body
may be sent again (a repetition changes nothing), and another body for the same attempt is
refused once the first has arrived. What a refusal means is decided in
:mod:`taskctl.placement.refusals`.

A batch that is refused because of one entry is sent again entry by entry, so that this one does
not hold up the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from taskctl.backoff import Backoff
from taskctl.errors import ApiError
from taskctl.objectkey import ObjectKey
from taskctl.placement.attempts import OpenAttempt
from taskctl.placement.instructions import (
    Append,
    Instruction,
    Log,
    LogSeverity,
    LookAtCluster,
    LookAtTask,
    ReadPod,
)
from taskctl.placement.ledger import Placements
from taskctl.placement.pending import HoldKind, PendingTasks
from taskctl.placement.refusals import (
    AppendVerdict,
    explain_forbidden,
    is_missing_right,
    judge_append,
)
from taskctl.placement.states import AttemptState
from taskctl.placement.workers import Worker
from taskctl.policy.lost import SHOW_SCHEDULED_AFTER_S

_PASSING: Final = frozenset(
    {AppendVerdict.UNKNOWN, AppendVerdict.THROTTLED, AppendVerdict.CONFLICT}
)
# Of a batch that was refused, so many in a row are refused alone before the rest has to wait.
_SINGLES: Final = 3
_COOL_BACKOFF: Final = Backoff(1.0, 30.0, (1.0, 1.25))


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One attempt to be written.

    Attributes:
        attempt: as it is assumed.
        entry: the ephemeral container.
    """

    attempt: OpenAttempt
    entry: Mapping[str, Any]


@dataclass(slots=True)
class Batch:
    """Attempts for one worker, from the decision to the last answer.

    Attributes:
        number: names its present patch.
        cluster: key of the TaskCluster.
        worker: where to.
        begun_s: when it was decided (monotonic).
        sent: what the present patch holds.
        queued: what is to be sent entry by entry.
        singly: it is being sent so.
        refusal: why it is.
        failed: entries in a row that were refused alone.
        asked: why the pod is being read; None: it is not.
    """

    number: int
    cluster: ObjectKey
    worker: Worker
    begun_s: float
    sent: list[BatchItem] = field(default_factory=list)
    queued: list[BatchItem] = field(default_factory=list)
    singly: bool = False
    refusal: str = ""
    failed: int = 0
    asked: ApiError | None = None

    @property
    def pod(self) -> ObjectKey:
        """Key of the worker's pod."""
        return ObjectKey(self.worker.pod.namespace, self.worker.pod.name)

    def append(self) -> Append:
        """Return the instruction that sends what is to be sent now."""
        entries = tuple(item.entry for item in self.sent)
        return Append(self.number, self.pod, self.worker.pod.uid, entries)


class Batches:
    """The batches in flight: one per worker at most.

    Args:
        placements: workers and attempts.
        pending: queues and holds.
    """

    def __init__(self, placements: Placements, pending: PendingTasks) -> None:
        self._placements = placements
        self._pending = pending
        self._batches: dict[int, Batch] = {}
        self._last = 0
        self._out: list[Instruction] = []

    def __len__(self) -> int:
        return len(self._batches)

    def get(self, number: int) -> Batch | None:
        """Return a batch in flight, or None."""
        return self._batches.get(number)

    def begin(self, cluster: ObjectKey, worker: Worker, now_s: float) -> Batch:
        """Open a batch for a worker; fill ``sent`` before it is appended."""
        batch = Batch(0, cluster, worker, now_s)
        self._number(batch)
        worker.in_flight = True
        return batch

    def _number(self, batch: Batch) -> None:
        """Give a batch a number of its own for each patch: an answer that comes twice is known."""
        self._batches.pop(batch.number, None)
        self._last += 1
        batch.number = self._last
        self._batches[batch.number] = batch

    def _take_out(self) -> list[Instruction]:
        out, self._out = self._out, []
        return out

    # --- answers ------------------------------------------------------------------------

    def stored(self, batch: Batch, now_s: float) -> list[Instruction]:
        """Take in that the entries are in the pod's spec."""
        batch.asked = None
        batch.worker.failures = 0
        self._confirm(batch.sent)
        self._next(batch, now_s)
        return self._take_out()

    def refused(
        self, batch: Batch, error: ApiError, now_s: float, jitter: float
    ) -> list[Instruction]:
        """Take in that the API server has refused the entries, or has not answered."""
        if batch.asked is not None:
            return []  # the same answer again
        verdict, worker = judge_append(error), batch.worker
        level = LogSeverity.INFO if verdict in _PASSING else LogSeverity.WARNING
        line = f"worker {worker.pod.name}, {len(batch.sent)} containers: {verdict}: {error}"
        self._out.append(Log(level, line))
        match verdict:
            case AppendVerdict.UNKNOWN | AppendVerdict.ENTRY:
                # An entry at fault is also what another controller's entry of the same name
                # looks like, and a pod that was made again under the same name.
                batch.asked = error
                self._out.append(ReadPod(batch.number, batch.pod, worker.pod.uid))
                return self._take_out()
            case AppendVerdict.FORBIDDEN if is_missing_right(error):
                self._cool(batch, error, now_s, jitter)
                self._give_back(
                    batch.sent, explain_forbidden(error), HoldKind.FORBIDDEN, now_s, worker
                )
            case AppendVerdict.FORBIDDEN | AppendVerdict.TOO_LARGE:
                self._blame(batch, batch.sent, error, verdict, now_s)
            case _:
                self._fail(batch, batch.sent, error, now_s, jitter)
        self._next(batch, now_s)
        return self._take_out()

    def pod_read(
        self, batch: Batch, present: frozenset[str] | None, now_s: float, jitter: float
    ) -> list[Instruction]:
        """Take in what is in the pod's spec after a patch without a clear answer.

        Args:
            batch: the batch.
            present: names of the containers in it; None: the pod is gone.
            now_s: the time (monotonic).
            jitter: drawn from [0, 1).
        """
        error, batch.asked = batch.asked, None
        if error is None:
            return []  # asked twice, answered twice
        if present is None:
            self._undo(batch.worker, batch.sent)
        else:
            self._confirm([i for i in batch.sent if i.attempt.container in present])
            absent = [i for i in batch.sent if i.attempt.container not in present]
            if judge_append(error) is AppendVerdict.UNKNOWN:
                self._fail(batch, absent, error, now_s, jitter)
            else:
                self._blame(batch, absent, error, AppendVerdict.ENTRY, now_s)
        self._next(batch, now_s)
        return self._take_out()

    def broke(self, batch: Batch, why: str, now_s: float) -> list[Instruction]:
        """Give everything of a batch back that cannot be settled otherwise."""
        items = [*batch.sent, *batch.queued]
        batch.queued, batch.singly = [], False
        self._give_back(items, why, HoldKind.FAILED, now_s, batch.worker)
        self._next(batch, now_s)
        return self._take_out()

    # --- the way of a batch -------------------------------------------------------------

    def _next(self, batch: Batch, now_s: float) -> None:
        """Send the next entry of a batch that is sent singly, or close it."""
        if batch.singly:
            alone = batch.sent
            if alone:
                undone = alone[0].attempt.state is AttemptState.WAITING
                batch.failed = batch.failed + 1 if undone else 0
            if batch.queued and batch.worker.full:
                self._undo(batch.worker, batch.queued)
                batch.queued = []
            elif batch.queued and batch.failed >= _SINGLES:
                why, worker = batch.refusal, batch.worker
                self._give_back(batch.queued, why, HoldKind.FAILED, now_s, worker)
                batch.queued = []
            if batch.queued:
                batch.sent = [batch.queued.pop(0)]
                self._number(batch)
                self._out.append(batch.append())
                return
        batch.worker.in_flight = False
        del self._batches[batch.number]

    def _blame(
        self,
        batch: Batch,
        items: Sequence[BatchItem],
        error: ApiError,
        verdict: AppendVerdict,
        now_s: float,
    ) -> None:
        """Find the entry that is at fault, so that it does not hold up the others."""
        worker = batch.worker
        if len(batch.sent) > 1:
            batch.sent, batch.queued = [], list(items)
            batch.singly, batch.refusal = True, str(error)
        elif verdict is AppendVerdict.FORBIDDEN:
            self._give_back(items, explain_forbidden(error), HoldKind.FORBIDDEN, now_s, worker)
        elif verdict is AppendVerdict.TOO_LARGE and len(worker.names) > 1:
            self._too_large(batch, items)
        else:  # on a pod with nothing else in it, size is the entry's own fault too
            self._give_back(items, str(error), HoldKind.INVALID, now_s, worker)

    def _too_large(self, batch: Batch, items: Sequence[BatchItem]) -> None:
        """The pod takes no more: it is worn out, and the tasks go elsewhere at once."""
        worker = batch.worker
        line = f"worker {worker.pod.name} is full with {len(worker.names)} containers"
        self._out.append(Log(LogSeverity.WARNING, line))
        worker.full = True
        self._out.append(LookAtCluster(batch.cluster))
        self._undo(worker, items)

    def _fail(
        self,
        batch: Batch,
        items: Sequence[BatchItem],
        error: ApiError,
        now_s: float,
        jitter: float,
    ) -> None:
        if items:
            self._cool(batch, error, now_s, jitter)
            self._give_back(items, str(error), HoldKind.FAILED, now_s, batch.worker)

    def _cool(self, batch: Batch, error: ApiError, now_s: float, jitter: float) -> None:
        """Leave the worker alone for a while."""
        worker = batch.worker
        worker.failures += 1
        asked_s = error.retry_after_s * (1.0 + 0.25 * jitter)
        wait_s = max(_COOL_BACKOFF.pause_s(worker.failures, jitter), asked_s)
        worker.cool_until_s = max(worker.cool_until_s, now_s + wait_s)

    # --- assumptions --------------------------------------------------------------------

    def _confirm(self, items: Sequence[BatchItem]) -> None:
        for item in items:
            self._placements.confirm(item.attempt)
            self._pending.release(item.attempt.id.task_uid)
            # Should it not be claimed by then, its state is shown and its deadline watched.
            self._out.append(LookAtTask(item.attempt.task, SHOW_SCHEDULED_AFTER_S))

    def _undo(self, worker: Worker, items: Sequence[BatchItem]) -> None:
        for item in items:
            self._placements.undo(worker, item.attempt)

    def _give_back(
        self,
        items: Sequence[BatchItem],
        message: str,
        kind: HoldKind,
        now_s: float,
        worker: Worker,
    ) -> None:
        for item in items:
            if not item.attempt.in_spec and self._placements.is_live(item.attempt.id):
                self._pending.hold(item.attempt.id.task_uid, now_s, message, kind)
        self._undo(worker, items)
