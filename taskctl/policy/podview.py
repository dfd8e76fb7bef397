"""A worker pod as policies see it, and what its status says of one container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from taskctl.constants import AGENT_CONTAINER, LABEL_CLUSTER_UID
from taskctl.policy.view import time_or_none
from taskctl.policy.workerpod import ANNOTATION_TEMPLATE

_DEAD_PHASES: Final = frozenset({"Succeeded", "Failed"})


class ContainerState(StrEnum):
    """What the kubelet says of a container."""

    UNKNOWN = "Unknown"  # no status yet
    WAITING = "Waiting"
    RUNNING = "Running"
    TERMINATED = "Terminated"


@dataclass(frozen=True, slots=True)
class ContainerReport:
    """State of one container.

    Attributes:
        state: what it is doing.
        reason: the kubelet's word, for example ImagePullBackOff.
        message: the kubelet's sentence.
    """

    state: ContainerState
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class PodView:
    """A worker pod.

    Attributes:
        namespace: ``metadata.namespace``.
        name: ``metadata.name``.
        uid: ``metadata.uid``.
        cluster_uid: UID of its TaskCluster (label), or empty.
        created: ``metadata.creationTimestamp``.
        deletion: ``metadata.deletionTimestamp``: when its grace ends; None: not deleted.
        dead: phase Succeeded or Failed: nothing runs in it any more.
        agent_running: its main container runs: tasks can be placed.
        template: fingerprint of the template it was made from.
        problem: why it is not ready, for people; empty if it is.
    """

    namespace: str
    name: str
    uid: str
    cluster_uid: str
    created: datetime | None
    deletion: datetime | None
    dead: bool
    agent_running: bool
    template: str
    problem: str


def parse_pod(pod: Mapping[str, Any]) -> PodView:
    """Return the view of a raw worker pod."""
    metadata = pod["metadata"]
    status = pod.get("status") or {}
    dead = status.get("phase") in _DEAD_PHASES
    running = not dead and _agent_state(status) == ContainerState.RUNNING
    return PodView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        cluster_uid=(metadata.get("labels") or {}).get(LABEL_CLUSTER_UID, ""),
        created=time_or_none(metadata.get("creationTimestamp")),
        deletion=time_or_none(metadata.get("deletionTimestamp")),
        dead=dead,
        agent_running=running,
        template=(metadata.get("annotations") or {}).get(ANNOTATION_TEMPLATE, ""),
        problem="" if running else _problem(status),
    )


def _agent_state(status: Mapping[str, Any]) -> ContainerState:
    for entry in status.get("containerStatuses") or ():
        if entry.get("name") == AGENT_CONTAINER:
            return container_report(entry).state
    return ContainerState.UNKNOWN


def _problem(status: Mapping[str, Any]) -> str:
    for entry in status.get("containerStatuses") or ():
        if entry.get("name") == AGENT_CONTAINER:
            report = container_report(entry)
            if report.reason:
                return ": ".join(part for part in (report.reason, report.message) if part)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            parts = (condition.get("reason"), condition.get("message"))
            return ": ".join(part for part in parts if part)
    parts = (status.get("reason"), status.get("message"))
    return ": ".join(part for part in parts if part) or str(status.get("phase") or "Pending")


def container_report(entry: Mapping[str, Any]) -> ContainerReport:
    """Return what one entry of ``ephemeralContainerStatuses`` or ``containerStatuses`` says.

    A container that was made but failed to start is never tried again, yet a kubelet with
    restartPolicy Always reports it as waiting with a last state: that counts as terminated.
    """
    state = entry.get("state") or {}
    if state.get("terminated") is not None:
        detail = state["terminated"]
        return _report(ContainerState.TERMINATED, detail)
    if state.get("running") is not None:
        return ContainerReport(ContainerState.RUNNING)
    if state.get("waiting") is not None:
        last = (entry.get("lastState") or {}).get("terminated")
        if last is not None:
            return _report(ContainerState.TERMINATED, last)
        return _report(ContainerState.WAITING, state["waiting"])
    return ContainerReport(ContainerState.UNKNOWN)


def _report(state: ContainerState, detail: Mapping[str, Any]) -> ContainerReport:
    return ContainerReport(state, detail.get("reason") or "", detail.get("message") or "")
