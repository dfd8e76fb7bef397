"""A worker as the choice sees it."""

from __future__ import annotations

from taskctl.placement.choice import Candidate
from taskctl.placement.rotation import RotationRule
from taskctl.placement.workers import Worker


def candidate_of(worker: Worker, serial: int, rotation: RotationRule, now_s: float) -> Candidate:
    """Return what the choice has to know of a worker.

    Args:
        worker: the worker.
        serial: its number.
        rotation: when it takes nothing more.
        now_s: the time (monotonic).
    """
    wear = worker.wear(now_s)
    takes = worker.accepting and worker.takes_batch(now_s) and not rotation.is_spent(wear)
    return Candidate(
        uid=worker.pod.uid,
        serial=serial,
        used=worker.used,
        capacity=worker.capacity,
        committed=worker.committed,
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
