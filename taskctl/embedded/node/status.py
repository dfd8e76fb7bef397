"""A pod's status as a kubelet reports it (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from taskctl.clock import format_seconds
from taskctl.embedded.node.decide import (
    ContainerStopReason,
    all_done,
    failed_init,
    is_initialized,
    will_restart,
)
from taskctl.embedded.node.model import (
    NO_VIEW,
    ContainerKind,
    ContainerView,
    Json,
    PodPhase,
    RunState,
    Terminated,
    containers_of,
    is_deleted,
    is_finished,
    is_sidecar,
    restart_policy,
)

# Of the kubelet: a message alone, and all messages of a pod together.
MESSAGE_LIMIT_BYTES: Final = 4096
POD_MESSAGE_LIMIT_BYTES: Final = 12 * 1024

_STATUS_KEYS: Final = {
    ContainerKind.INIT: "initContainerStatuses",
    ContainerKind.REGULAR: "containerStatuses",
    ContainerKind.EPHEMERAL: "ephemeralContainerStatuses",
}


class PodCondition(StrEnum):
    """Condition types of a pod that the node writes."""

    SCHEDULED = "PodScheduled"
    INITIALIZED = "Initialized"
    CONTAINERS_READY = "ContainersReady"
    READY = "Ready"


@dataclass(frozen=True, slots=True)
class StatusInputs:
    """What the status is made of besides the pod itself.

    Attributes:
        views: the containers by name.
        now: for times that are set once.
        stop: why the pod is being stopped, if it is.
        host_ip: the node's address; pods have the same, they live in the host's network.
        trouble: why the pod's volumes are not ready, if they are not.
    """

    views: Mapping[str, ContainerView]
    now: datetime
    stop: ContainerStopReason = ContainerStopReason.NONE
    host_ip: str = "127.0.0.1"
    trouble: str = ""


def pod_status(pod: Json, inputs: StatusInputs) -> Json:
    """Return the fields of ``status`` that the node owns."""
    old = pod.get("status") or {}
    phase = _phase(pod, inputs)
    result: Json = {
        "phase": phase.value,
        "startTime": old.get("startTime") or format_seconds(inputs.now),
        "hostIP": inputs.host_ip,
        "hostIPs": [{"ip": inputs.host_ip}],
        "podIP": inputs.host_ip,
        "podIPs": [{"ip": inputs.host_ip}],
        "conditions": _conditions(pod, phase, inputs),
    }
    if (generation := pod["metadata"].get("generation")) is not None:
        result["observedGeneration"] = generation
    if (
        inputs.stop is ContainerStopReason.DEADLINE
        or old.get("reason") == ContainerStopReason.DEADLINE
    ):
        result["reason"] = ContainerStopReason.DEADLINE.value
        result["message"] = "Pod was active on the node longer than the specified deadline"
    total = sum(1 for _ in containers_of(pod))
    limit = min(MESSAGE_LIMIT_BYTES, POD_MESSAGE_LIMIT_BYTES // max(total, 1))
    for kind, key in _STATUS_KEYS.items():
        known = {s["name"]: s for s in old.get(key) or ()}
        statuses = [
            _container_status(pod, kind, container, inputs, known.get(container["name"]), limit)
            for _, container in containers_of(pod, kind)
        ]
        if statuses:
            result[key] = statuses
    return result


def unscheduled_condition(pod: Json, reason: str, message: str, now: datetime) -> Json:
    """Return the PodScheduled condition of a pod that this node does not take."""
    return _condition(pod, PodCondition.SCHEDULED, False, now, reason=reason, message=message)


def differs(old: Json, new: Json) -> bool:
    """Whether writing ``new`` over the server's ``old`` status would change anything."""
    for key, value in new.items():
        if key == "conditions":
            known = {c["type"]: c for c in old.get("conditions") or ()}
            if any(not _covers(known.get(c["type"]) or {}, c) for c in value):
                return True
        elif old.get(key) != value:
            return True
    return False


def _covers(old: Json, new: Json) -> bool:
    return all(old.get(key) == value for key, value in new.items())


def _phase(pod: Json, inputs: StatusInputs) -> PodPhase:
    if is_finished(pod):
        return PodPhase(pod["status"]["phase"])  # final, whatever happened to the records
    views = inputs.views
    if inputs.stop is ContainerStopReason.DEADLINE or failed_init(pod, views):
        return PodPhase.FAILED
    if _ends(pod, views) and any(v.state is RunState.RUNNING for v in views.values()):
        # As the kubelet: a pod is over when the last of all its containers is, also of those
        # that do not count for the phase.
        return PodPhase((pod.get("status") or {}).get("phase") or PodPhase.RUNNING)
    regular = [views.get(c["name"], NO_VIEW) for _, c in containers_of(pod, ContainerKind.REGULAR)]
    if _ends(pod, views):
        bad = any(v.terminated is None or v.terminated.exit_code != 0 for v in regular)
        return PodPhase.FAILED if bad else PodPhase.SUCCEEDED
    if not is_initialized(pod, views):
        return PodPhase.PENDING
    begun = (RunState.RUNNING, RunState.EXITED)
    if all(v.state in begun or v.restarts for v in regular):
        return PodPhase.RUNNING
    return PodPhase.PENDING


def _ends(pod: Json, views: Mapping[str, ContainerView]) -> bool:
    """Whether no regular container runs, and none will again."""
    regular = [views.get(c["name"], NO_VIEW) for _, c in containers_of(pod, ContainerKind.REGULAR)]
    return all_done(pod, views) or (
        is_deleted(pod) and bool(regular) and all(v.state is RunState.EXITED for v in regular)
    )


def _conditions(pod: Json, phase: PodPhase, inputs: StatusInputs) -> list[Json]:
    now, views = inputs.now, inputs.views
    finished = phase in (PodPhase.SUCCEEDED, PodPhase.FAILED)
    done_reason = "PodCompleted" if phase is PodPhase.SUCCEEDED else "PodFailed"
    initialized = is_initialized(pod, views) or phase is PodPhase.SUCCEEDED
    not_initialized = "" if initialized else "ContainersNotInitialized"
    unready = [
        c["name"]
        for _, c in containers_of(pod, ContainerKind.REGULAR)
        if views.get(c["name"], NO_VIEW).state is not RunState.RUNNING
    ]
    unready += [
        c["name"]
        for kind, c in containers_of(pod, ContainerKind.INIT)
        if is_sidecar(kind, c) and views.get(c["name"], NO_VIEW).state is not RunState.RUNNING
    ]
    ready = not unready and initialized and not finished
    why: Json = {}
    if not ready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        why = {
            "reason": done_reason if finished else "ContainersNotReady",
            "message": inputs.trouble or ("" if finished else message),
        }
    gates = _closed_gates(pod)
    gate_why = why or (
        {"reason": "ReadinessGatesNotReady", "message": f"waiting for {', '.join(gates)}"}
        if gates
        else {}
    )
    result = [
        _condition(pod, PodCondition.SCHEDULED, True, now),
        _condition(
            pod,
            PodCondition.INITIALIZED,
            initialized,
            now,
            reason=done_reason if phase is PodPhase.SUCCEEDED else not_initialized,
            message="" if initialized else inputs.trouble,
        ),
        _condition(pod, PodCondition.READY, ready and not gates, now, **gate_why),
        _condition(pod, PodCondition.CONTAINERS_READY, ready, now, **why),
    ]
    return result


def _closed_gates(pod: Json) -> list[str]:
    status = {c["type"]: c["status"] for c in (pod.get("status") or {}).get("conditions") or ()}
    gates = pod["spec"].get("readinessGates") or ()
    return [g["conditionType"] for g in gates if status.get(g["conditionType"]) != "True"]


def _condition(
    pod: Json,
    kind: PodCondition,
    value: bool,
    now: datetime,
    *,
    reason: str = "",
    message: str = "",
) -> Json:
    text = "True" if value else "False"
    old_list = (pod.get("status") or {}).get("conditions") or ()
    old = next((c for c in old_list if c["type"] == kind), None)
    since = old.get("lastTransitionTime") if old and old.get("status") == text else None
    result: Json = {
        "type": kind.value,
        "status": text,
        "lastTransitionTime": since or format_seconds(now),
    }
    # None takes away what was there: the write is a merge.
    if old and "lastProbeTime" in old and old["lastProbeTime"] is None:
        result["lastProbeTime"] = None
    if reason or (old and old.get("reason")):
        result["reason"] = reason or None
    if message or (old and old.get("message")):
        result["message"] = message or None
    return result


def _container_status(
    pod: Json,
    kind: ContainerKind,
    container: Json,
    inputs: StatusInputs,
    old: Json | None,
    limit: int,
) -> Json:
    view = inputs.views.get(container["name"], NO_VIEW)
    if view.state is RunState.ABSENT and old and "terminated" in (old.get("state") or {}):
        return old  # the node's record is gone; what the API says is all that is known
    running = view.state is RunState.RUNNING
    result: Json = {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": view.image_id,
        "restartCount": view.restarts,
        "ready": running,
        "started": running,
        "state": _state(pod, kind, container, inputs, limit),
        "lastState": {},
    }
    if kind is ContainerKind.INIT and not is_sidecar(kind, container):
        result["ready"] = view.terminated is not None and view.terminated.exit_code == 0
    if kind is ContainerKind.EPHEMERAL:
        result["ready"] = False
    if view.container_id:
        result["containerID"] = view.container_id
    last = view.terminated if "waiting" in result["state"] and view.terminated else view.last
    if last is not None:
        result["lastState"] = {"terminated": _terminated(last, limit)}
    return result


def _state(
    pod: Json, kind: ContainerKind, container: Json, inputs: StatusInputs, limit: int
) -> Json:
    view = inputs.views.get(container["name"], NO_VIEW)
    if view.state is RunState.RUNNING:
        started = format_seconds(view.started_at) if view.started_at else None
        return {"running": {"startedAt": started} if started else {}}
    stopping = is_deleted(pod) or inputs.stop is not ContainerStopReason.NONE
    if view.state is RunState.EXITED and view.terminated is not None:
        again = not stopping and will_restart(
            restart_policy(pod), kind, view, sidecar=is_sidecar(kind, container)
        )
        if not again or (not view.waiting_reason and view.not_before is None):
            return {"terminated": _terminated(view.terminated, limit)}
        if not view.waiting_reason:
            return {"waiting": _crash_loop(pod, container)}
    if view.waiting_reason:
        return {"waiting": {"reason": view.waiting_reason, "message": view.waiting_message}}
    waits_for_init = kind is ContainerKind.REGULAR and not is_initialized(pod, inputs.views)
    return {"waiting": {"reason": "PodInitializing" if waits_for_init else "ContainerCreating"}}


def _crash_loop(pod: Json, container: Json) -> Json:
    meta = pod["metadata"]
    return {
        "reason": "CrashLoopBackOff",
        "message": f"back-off restarting failed container={container['name']} "
        f"pod={meta['name']}_{meta.get('namespace', 'default')}({meta['uid']})",
    }


def _terminated(end: Terminated, limit: int) -> Json:
    result: Json = {"exitCode": end.exit_code, "reason": end.reason}
    if end.container_id:
        result["containerID"] = end.container_id
    if end.signal:
        result["signal"] = end.signal
    if end.message:
        result["message"] = end.message.encode()[:limit].decode("utf-8", "ignore")
    # The kubelet writes null for a time it does not know; null in a merge would delete the key.
    if end.started_at:
        result["startedAt"] = format_seconds(end.started_at)
    if end.finished_at:
        result["finishedAt"] = format_seconds(end.finished_at)
    return result
