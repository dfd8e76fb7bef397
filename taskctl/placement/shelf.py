"""The parked containers of workers, and the attempts that are handed to them.

A parked container is known from the pod's spec, runs when the pod's status says so, and is given
at most one attempt in its life. What it was given stands in the worker's handover record until it
is claimed; from then on the Task's status says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from taskctl.api.states import TaskState
from taskctl.clock import Moment
from taskctl.objectkey import ObjectKey
from taskctl.placement.attempts import AttemptId, OpenAttempt, Withdrawn
from taskctl.placement.parked import Parked, ParkedNews
from taskctl.placement.rotation import STATUS_BYTES
from taskctl.placement.states import AttemptState, ParkedState
from taskctl.placement.workers import Worker
from taskctl.policy.entry import json_bytes
from taskctl.policy.handover import (
    NOT_BEGUN_CODE,
    Dismissal,
    Handover,
    encode_entry,
    is_parked_name,
    parse_parked,
    parse_record,
    record_pod_uid,
)
from taskctl.policy.podview import ContainerReport, ContainerState
from taskctl.policy.resources import requested
from taskctl.policy.view import TaskView

# A parked container takes an attempt within milliseconds; one whose agent is being started again,
# within a second or two.
TAKE_BACK_AFTER_S = 5.0
# One that has ended may have claimed its attempt just before: the Task's watch tells.
TAKE_BACK_ENDED_AFTER_S = 1.0
_DISMISSED = encode_entry(Dismissal())


class AttemptBook(Protocol):
    """What the shelf needs of the ledger."""

    def add(self, worker: Worker, attempt: OpenAttempt) -> None:
        """Take in an attempt, and judge it."""
        ...

    def drop(self, worker: Worker, attempt: OpenAttempt, state: AttemptState) -> None:
        """An attempt is not open on that worker any more."""
        ...

    def read_report(self, worker: Worker, attempt: OpenAttempt, now: Moment) -> None:
        """Take in what the pod's status says of an attempt's container."""
        ...

    def may_be_claimed(self, attempt_id: AttemptId) -> bool:
        """Whether an agent that has read of that attempt may still claim it, as far as is known."""
        ...

    def freed(self, worker: Worker) -> None:
        """Slots of a worker that were kept are free."""
        ...

    def past_s(self, handover: Handover, now: Moment) -> float:
        """Return when an attempt was handed over, by the monotonic clock."""
        ...


class Shelf:
    """See the module.

    Args:
        book: the ledger of attempts.
    """

    def __init__(self, book: AttemptBook) -> None:
        self._book = book
        self._records: dict[str, Mapping[str, Handover | Dismissal]] = {}
        # By pod UID and container: the Running Task that names a parked container there.
        self._claimed: dict[str, dict[str, TaskView]] = {}
        self._where: dict[str, tuple[str, str]] = {}
        # By UID of the Task: where its attempts were taken back, and may be claimed for all that.
        self._withdrawn: dict[str, set[tuple[str, str]]] = {}

    # --- pods ---------------------------------------------------------------------------

    def on_container(self, worker: Worker, container: Mapping[str, Any], now_s: float) -> bool:
        """Take in a container of a pod's spec that is new; return whether it is a parked one."""
        view = parse_parked(container)
        if view is None:
            return False
        size_bytes = json_bytes(container) + STATUS_BYTES
        worker.parked[view.container] = Parked(
            view.container, view.fingerprint, now_s, size_bytes, in_spec=True
        )
        return True

    def on_status(
        self, worker: Worker, name: str, report: ContainerReport, now_s: float
    ) -> ParkedNews | None:
        """Take in a parked container's status; None: that makes no difference to the stock."""
        parked = worker.parked[name]
        if report.state is ContainerState.TERMINATED:
            news = ParkedNews.ENDED
            # Whether one that is seen for the first time was ever used, is not known.
            if parked.age_s(now_s) > 0:
                news = parked.end_news(now_s) if worker.accepting else news
                worker.unused += not parked.taken
            parked.become(ParkedState.OVER)
            del worker.parked[name]
            self.release(worker, name)
            if name in worker.record or worker.record_wanted.get(name):
                worker.record_wanted[name] = None
            return news
        parked.running = report.state is ContainerState.RUNNING
        if parked.running and parked.state is ParkedState.COMING:
            parked.become(ParkedState.PARKED)
            return ParkedNews.ARRIVED
        return None

    def on_pod_read(self, worker: Worker, now: Moment) -> None:
        """The pod's spec and status were taken in: join them with the record and the Tasks."""
        if worker.parked or worker.record or worker.pod.uid in self._claimed:
            self._join(worker, now)

    def stashed(self, pod_uid: str) -> Mapping[str, Handover | Dismissal]:
        """Return the record of a pod that was not known before."""
        return self._records.get(pod_uid, {})

    # --- records ------------------------------------------------------------------------

    def on_record(self, raw: Mapping[str, Any]) -> str:
        """Remember a record; return the UID of its pod, or an empty text."""
        uid = record_pod_uid(raw)
        if uid:
            self._records[uid] = parse_record(raw)
        return uid

    def on_record_gone(self, pod_uid: str) -> None:
        """Forget a record."""
        self._records.pop(pod_uid, None)

    def read_record(self, worker: Worker, now: Moment) -> None:
        """Take in a worker's record as it is now."""
        worker.record = self.stashed(worker.pod.uid)
        self._join(worker, now)

    def _join(self, worker: Worker, now: Moment) -> None:
        for name, entry in worker.record.items():
            if name not in worker.names:
                continue  # the pod is behind
            parked = worker.parked.get(name)
            if isinstance(entry, Dismissal):
                if parked is None:
                    worker.record_wanted[name] = None
                elif parked.spare:
                    parked.become(ParkedState.LEAVING)
                    if entry.taken_back is not None:
                        before = entry.taken_back
                        its_id = AttemptId(before.task_uid, before.attempt)
                        self._withdraw(worker, name, Withdrawn(its_id, before.amount))
            else:
                self._read_handover(worker, name, parked, entry, now)
        self.adopt_all(worker, now)

    def _read_handover(
        self, worker: Worker, name: str, parked: Parked | None, entry: Handover, now: Moment
    ) -> None:
        attempt = worker.attempts.get(name)
        attempt_id = AttemptId(entry.task_uid, entry.attempt)
        if attempt is not None:
            if attempt.id == attempt_id:
                attempt.in_spec = True
                if attempt.state is AttemptState.ASSUMED:
                    attempt.become(AttemptState.PLACED)
        elif parked is not None and parked.spare:
            parked.become(ParkedState.GIVEN)
            found = OpenAttempt(
                id=attempt_id,
                container=name,
                task=ObjectKey(worker.pod.namespace, entry.task_name),
                placed_at_s=self._book.past_s(entry, now),
                in_spec=True,
                running=parked.running,
                amount=entry.amount,
            )
            found.become(AttemptState.PLACED)
            self._book.add(worker, found)
        elif parked is None or parked.state is ParkedState.USED:
            worker.record_wanted.setdefault(name, None)

    # --- Tasks --------------------------------------------------------------------------

    def on_task(self, uid: str, view: TaskView | None) -> str:
        """Take in where a Task runs; return the UID of the pod if it is in a parked container."""
        before = self._where.pop(uid, None)
        if before is not None:
            there = self._claimed.get(before[0], {})
            if there.get(before[1]) is not None and there[before[1]].uid == uid:
                del there[before[1]]
                if not there:
                    del self._claimed[before[0]]
        if view is None or view.state is not TaskState.RUNNING:
            return ""
        if not is_parked_name(view.container) or not view.pod_uid:
            return ""
        self._where[uid] = (view.pod_uid, view.container)
        self._claimed.setdefault(view.pod_uid, {})[view.container] = view
        return view.pod_uid

    def adopt_all(self, worker: Worker, now: Moment) -> None:
        """Take in what runs in a worker's parked containers, as the Tasks say."""
        for name, view in self._claimed.get(worker.pod.uid, {}).items():
            if name in worker.names:
                self._adopt(worker, name, view, now)

    def _adopt(self, worker: Worker, name: str, view: TaskView, now: Moment) -> None:
        """A Task says that it runs in a parked container: so it was handed over there.

        Also where the container has ended: the attempt is lost then, and has to be written off.
        """
        attempt_id = AttemptId(view.uid, view.attempt)
        attempt, parked = worker.attempts.get(name), worker.parked.get(name)
        if attempt is not None:
            if attempt.id == attempt_id:
                return
            # Another one was faster; the agent is bound to that.
            self.take_back(worker, attempt, kept=False)
        if parked is not None and parked.state is not ParkedState.USED:
            parked.become(ParkedState.USED)
        self.release(worker, name)
        found = OpenAttempt(
            id=attempt_id,
            container=name,
            task=ObjectKey(view.namespace, view.name),
            placed_at_s=now.monotonic_s if parked is None else parked.since_s,
            in_spec=True,
            running=parked is not None and parked.running,
            amount=requested(view.spec),
        )
        found.become(AttemptState.PLACED)
        self._book.add(worker, found)
        self._book.read_report(worker, found, now)

    # --- handing over -------------------------------------------------------------------

    def hand_over(
        self, worker: Worker, parked: Parked, view: TaskView, entry: Handover, now: Moment
    ) -> OpenAttempt:
        """Take a Task's next attempt as handed to a parked container, before it is written."""
        attempt = OpenAttempt(
            id=AttemptId(view.uid, view.next_attempt),
            container=parked.container,
            task=ObjectKey(view.namespace, view.name),
            placed_at_s=now.monotonic_s,
            running=parked.running,
            amount=entry.amount,
        )
        parked.become(ParkedState.GIVEN)
        attempt.become(AttemptState.ASSUMED)
        worker.record_wanted[parked.container] = encode_entry(entry)
        self._book.add(worker, attempt)
        return attempt

    def take_back(self, worker: Worker, attempt: OpenAttempt, *, kept: bool = True) -> None:
        """An attempt was not, and is not to be, begun in the parked container it was given to.

        Args:
            worker: where it was.
            attempt: which.
            kept: its agent may have read of it, and be faster: its slots are kept until the
                container has ended, or the Task's status says that it was not claimed here.
        """
        if worker.attempts.get(attempt.container) is not attempt:
            return
        self._book.drop(worker, attempt, AttemptState.WAITING)
        if kept and attempt.container in worker.parked:
            self._withdraw(worker, attempt.container, Withdrawn(attempt.id, attempt.amount))
            uid, number = attempt.id
            before = Handover(attempt.task.name, uid, number, "", attempt.amount)
            if worker.parked[attempt.container].state is ParkedState.LEAVING:
                worker.record_wanted[attempt.container] = encode_entry(Dismissal(before))

    def _withdraw(self, worker: Worker, container: str, one: Withdrawn) -> None:
        if self._book.may_be_claimed(one.id):
            worker.withdrawn[container] = one
            there = self._withdrawn.setdefault(one.id.task_uid, set())
            there.add((worker.pod.uid, container))

    def release(self, worker: Worker, container: str) -> None:
        """Free the slots that are kept for an attempt that cannot be claimed there any more."""
        one = worker.withdrawn.pop(container, None)
        if one is None:
            return
        there = self._withdrawn[one.id.task_uid]
        there.discard((worker.pod.uid, container))
        if not there:
            del self._withdrawn[one.id.task_uid]
        self._book.freed(worker)

    def withdrawn_of(self, task_uid: str) -> list[tuple[str, str]]:
        """Return where attempts of a Task were taken back: UIDs of pods, and containers."""
        return sorted(self._withdrawn.get(task_uid, ()))

    def on_worker_gone(self, worker: Worker) -> None:
        """Forget what was taken back on a worker."""
        for container in list(worker.withdrawn):
            self.release(worker, container)

    def on_claimed(self, worker: Worker, attempt: OpenAttempt) -> None:
        """An attempt was claimed: its Task's status is the record from now on."""
        if not is_parked_name(attempt.container):
            return
        parked = worker.parked.get(attempt.container)
        if parked is not None and parked.state is not ParkedState.USED:
            parked.become(ParkedState.USED)
        worker.record_wanted[attempt.container] = None

    def on_dropped(self, worker: Worker, attempt: OpenAttempt) -> None:
        """An attempt is not open any more: what it was given to and has not run it, ends."""
        parked = worker.parked.get(attempt.container)
        if parked is not None and parked.state is ParkedState.GIVEN:
            self.dismiss(worker, [parked])

    def dismiss(self, worker: Worker, parked: Iterable[Parked]) -> None:
        """Have parked containers ended."""
        for one in parked:
            one.become(ParkedState.LEAVING)
            worker.record_wanted[one.container] = _DISMISSED

    def forget_unwritten(self, worker: Worker, names: Iterable[str]) -> None:
        """Forget parked containers that did not get into the pod's spec, and will not."""
        for name in names:
            parked = worker.parked.get(name)
            if parked is None or parked.in_spec:
                continue
            parked.become(ParkedState.OVER)
            del worker.parked[name]
            worker.names.discard(name)
            worker.unreported.discard(name)
            worker.size_bytes -= parked.size_bytes


def overdue(worker: Worker, now_s: float) -> list[OpenAttempt]:
    """Return the attempts whose parked containers do not take them."""
    return [
        attempt
        for attempt in worker.attempts.values()
        if is_parked_name(attempt.container) and now_s >= _due_s(worker, attempt)
    ]


def next_due_s(worker: Worker) -> float:
    """Return when :func:`overdue` may find something (monotonic); infinity: never."""
    due = (_due_s(worker, a) for a in worker.attempts.values() if is_parked_name(a.container))
    return min(due, default=float("inf"))


def _due_s(worker: Worker, attempt: OpenAttempt) -> float:
    parked = worker.parked.get(attempt.container)
    used = parked is not None and parked.state is ParkedState.USED
    if attempt.claimed or not attempt.open or not attempt.in_spec or used:
        return float("inf")
    due_s = attempt.placed_at_s + TAKE_BACK_AFTER_S
    if attempt.ended_at_s is not None:
        said = attempt.ended is not None and attempt.ended.exit_code == NOT_BEGUN_CODE
        after_s = 0.0 if said else TAKE_BACK_ENDED_AFTER_S
        due_s = min(due_s, attempt.ended_at_s + after_s)
    return due_s
