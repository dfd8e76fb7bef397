"""A worker as the choice sees it."""

from __future__ import annotations

from collections.abc import Mapping

from taskctl.placement.choice import Candidate
from taskctl.placement.rotation import RotationRule
from taskctl.placement.workers import Worker
from taskctl.policy.view import TaskView


def candidate_of(
    worker: Worker, serial: int, rotation: RotationRule, tasks: Mapping[str, TaskView], now_s: float
) -> Candidate:
    """Return what the choice has to know of a worker.

    Args:
        worker: the worker.
        serial: its number.
        rotation: when it takes nothing more.
        tasks: all Tasks as they were last seen, by UID.
        now_s: the time (monotonic).
    """
    wear = worker.wear(now_s)
    # What was taken back there and may be claimed for all that keeps its slots.
    kept = [one for one in worker.withdrawn.values() if one.id.task_uid in tasks]
    takes = worker.accepting and worker.takes_batch(now_s) and not rotation.is_spent(wear)
    return Candidate(
        uid=worker.pod.uid,
        serial=serial,
        used=worker.used + sum(tasks[one.id.task_uid].slots for one in kept),
        capacity=worker.capacity,
        committed=sum((one.amount for one in kept), worker.committed),
        entries_total=wear.entries,
        max_entries=rotation.entry_limit,
        rest=worker.rest,
        accepting=takes,
        worn=rotation.is_worn(wear, serial),
        serves=worker.serves_in_s(now_s) <= 0,
        images=worker.images,
        parked=worker.ready() if worker.accepting and now_s >= worker.record_cool_until_s else {},
        hands_over=not worker.record_in_flight,
    )
