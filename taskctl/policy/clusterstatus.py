"""What a TaskCluster's status says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from taskctl.api.conditions import ConditionUpdate, set_condition
from taskctl.api.states import ConditionStatus, ConditionType
from taskctl.constants import LABEL_CLUSTER_UID, Reason
from taskctl.policy.status import StatusPatch
from taskctl.policy.workspace import WorkspaceVolume

_PROBLEMS_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class ClusterCounts:
    """The numbers in a TaskCluster's status.

    Attributes:
        wanted: workers asked for.
        workers: worker pods that exist.
        ready: those that take tasks: running and not retiring.
        busy_slots: slots taken on all workers.
        free_slots: slots open on ready workers.
        queue_length: tasks that are ready and wait for a slot.
        last_serial: highest worker number used.
        problems: sentences on workers that are not ready.
    """

    wanted: int
    workers: int
    ready: int
    busy_slots: int
    free_slots: int
    queue_length: int
    last_serial: int
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class WorkspaceFacts:
    """The state of the workspace's claim.

    Attributes:
        exists: the claim exists.
        phase: its ``status.phase``.
        reason: why no worker may use it, or why it cannot be made; None: nothing is wrong.
        message: the same for people.
        held: no worker runs, because of that.
        words: what an Event says of a claim that is not bound; empty: nothing.
    """

    exists: bool = False
    phase: str = ""
    reason: Reason | None = None
    message: str = ""
    held: bool = False
    words: str = ""


def decide_cluster_status(
    cluster: Mapping[str, Any],
    counts: ClusterCounts,
    conditions: Sequence[ConditionUpdate],
    now: datetime,
) -> StatusPatch | None:
    """Return the patch that makes the status true, or None if it is."""
    status = cluster.get("status") or {}
    wanted: dict[str, Any] = {
        "replicas": counts.wanted,
        "workers": counts.workers,
        "selector": f"{LABEL_CLUSTER_UID}={cluster['metadata']['uid']}",
        "ready": counts.ready,
        "availableReplicas": counts.ready,
        "busySlots": counts.busy_slots,
        "freeSlots": counts.free_slots,
        "queueLength": counts.queue_length,
        "workerSerial": counts.last_serial,
        "observedGeneration": cluster["metadata"].get("generation") or 0,
    }
    patch = {key: value for key, value in wanted.items() if status.get(key) != value}
    old = [dict(entry) for entry in status.get("conditions") or ()]
    new = old
    for update in conditions:
        new = set_condition(new, update, now=now)
    if new != old:
        patch["conditions"] = new
    return patch or None


def ready_condition(
    counts: ClusterCounts, generation: int, refusal: str = "", *, invalid: str = ""
) -> ConditionUpdate:
    """Return the Ready condition: are all workers up?

    Args:
        counts: of workers.
        generation: the TaskCluster's.
        refusal: why no worker could be created lately, as a sentence; empty: nothing is known.
        invalid: what of the spec is not understood, as a sentence; empty: nothing.
    """
    if invalid:
        status, reason, message = ConditionStatus.FALSE, Reason.SPEC_INVALID, invalid
    elif counts.ready >= counts.wanted:
        status, reason = ConditionStatus.TRUE, Reason.WORKERS_READY
        message = f"{counts.ready} workers are ready."
    elif refusal:
        status, reason = ConditionStatus.FALSE, Reason.WORKERS_REFUSED
        message = f"{counts.ready} of {counts.wanted} workers are ready. {refusal}"
    else:
        status, reason = ConditionStatus.FALSE, Reason.WORKERS_NOT_READY
        shown = "; ".join(counts.problems[:_PROBLEMS_SHOWN])
        message = f"{counts.ready} of {counts.wanted} workers are ready."
        if shown:
            message = f"{message} {shown}"
    return ConditionUpdate(
        type=ConditionType.READY,
        status=status,
        reason=reason,
        message=message,
        observed_generation=generation,
    )


def unserved_message(name: str, counts: ClusterCounts, ready_message: str) -> str:
    """Return why no worker takes tasks, as a waiting Task should say it.

    Args:
        name: of the TaskCluster.
        counts: of workers.
        ready_message: of its Ready condition.
    """
    if counts.wanted == 0:
        return f"TaskCluster {name!r} asks for no workers: spec.replicas is 0."
    return f"TaskCluster {name!r}: {ready_message}"


def workspace_condition(
    workspace: WorkspaceVolume, facts: WorkspaceFacts, generation: int
) -> ConditionUpdate:
    """Return the WorkspaceReady condition: can the workers mount it?

    A claim may stay Pending until the first worker is scheduled (WaitForFirstConsumer), so
    nothing waits for this condition.
    """
    name = workspace.claim_name
    if workspace.volume is None:
        status, reason = ConditionStatus.FALSE, Reason.WORKSPACE_DISABLED
        message = "spec.workspace is not set, or not enabled."
    elif not name:
        status, reason = ConditionStatus.TRUE, Reason.WORKSPACE_READY
        message = "The workspace is a volume that needs no claim."
    elif facts.reason is not None:
        status, reason, message = ConditionStatus.FALSE, facts.reason, facts.message
    elif facts.exists and facts.phase == "Bound":
        status, reason = ConditionStatus.TRUE, Reason.WORKSPACE_READY
        message = f"PersistentVolumeClaim {name!r} is bound."
    else:
        status, reason = ConditionStatus.FALSE, Reason.WORKSPACE_PENDING
        state = f"is {facts.phase or 'Pending'}" if facts.exists else "does not exist"
        message = f"PersistentVolumeClaim {name!r} {state}."
        if facts.words:
            message = f"{message} {facts.words}"
    return ConditionUpdate(
        type=ConditionType.WORKSPACE_READY,
        status=status,
        reason=reason,
        message=message,
        observed_generation=generation,
    )
