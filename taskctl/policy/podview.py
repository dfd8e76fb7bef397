"""A worker pod as policies see it, and what its status says of one container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from taskctl.constants import (
    AGENT_CONTAINER,
    ANNOTATION_CLAIM_UID,
    FINALIZER_EVIDENCE,
    LABEL_CLUSTER_UID,
)
from taskctl.policy.view import time_or_none
from taskctl.policy.workerpod import ANNOTATION_TEMPLATE

_DEAD_PHASES: Final = frozenset({"Succeeded", "Failed"})
# For a container that vanished unseen, the kubelet reports 137 and a reason of its own
# (kubelet_pods.go); 137 is also what its SIGKILL leaves, and 255 what a lost runtime does. Only
# these reasons mean that the runtime saw the process end by itself.
_SEEN_TO_END: Final = frozenset({"Completed", "Error"})
_NO_PROOF: Final = frozenset({137, 255})
# What a kubelet says of any container that it has not come to yet.
_USUAL_WAITS: Final = frozenset({"ContainerCreating", "PodInitializing"})


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
        exit_code: with which it was seen to end; None: it has not, or the number proves
            nothing.
    """

    state: ContainerState
    reason: str = ""
    message: str = ""
    exit_code: int | None = None

    @property
    def words(self) -> str:
        """Reason, exit code and message in one line; empty where there is nothing to tell."""
        if self.state is ContainerState.WAITING and self.reason in _USUAL_WAITS:
            return ""
        code = "" if self.exit_code is None else f"exit code {self.exit_code}"
        head = ", ".join(part for part in (self.reason, code) if part)
        return ": ".join(part for part in (head, self.message) if part)


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
        dead: phase Succeeded or Failed: nothing runs in it any more. A kubelet says so only
            when no container can be running (status_manager.go); of a pod whose node is
            gone the cluster's pod garbage collector says it.
        agent_running: its main container runs and its node answers: tasks can be placed.
        unreachable_since: when the node controller took the pod's Ready condition away: its
            main container was running when its node was last heard of; None: it answers.
        pinned: it has our finalizer.
        claim_uid: UID of the workspace's claim that it was made for; empty: of none.
        grace_s: seconds of grace of its deletion, which ``deletion`` is that far ahead of.
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
    unreachable_since: datetime | None = None
    pinned: bool = False
    claim_uid: str = ""
    grace_s: float = 0.0


def parse_pod(pod: Mapping[str, Any]) -> PodView:
    """Return the view of a raw worker pod."""
    metadata = pod["metadata"]
    annotations = metadata.get("annotations") or {}
    status = pod.get("status") or {}
    dead = status.get("phase") in _DEAD_PHASES
    runs = not dead and _agent_state(status) == ContainerState.RUNNING
    unreachable_since = _ready_taken_away(pod) if runs else None
    running = runs and unreachable_since is None
    problem = _problem(status) if unreachable_since is None else "NodeNotReady"
    return PodView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        cluster_uid=(metadata.get("labels") or {}).get(LABEL_CLUSTER_UID, ""),
        created=time_or_none(metadata.get("creationTimestamp")),
        deletion=time_or_none(metadata.get("deletionTimestamp")),
        dead=dead,
        agent_running=running,
        template=annotations.get(ANNOTATION_TEMPLATE, ""),
        problem="" if running else problem,
        unreachable_since=unreachable_since,
        grace_s=float(metadata.get("deletionGracePeriodSeconds") or 0),
        pinned=FINALIZER_EVIDENCE in (metadata.get("finalizers") or ()),
        claim_uid=annotations.get(ANNOTATION_CLAIM_UID, ""),
    )


def _ready_taken_away(pod: Mapping[str, Any]) -> datetime | None:
    """When the pod became unready while its agent runs; None: it is ready.

    The agent has no readiness probe, so only the node controller does that, for a node that
    it has not heard of for a while (node-monitor-grace-period).
    """
    for condition in pod["status"].get("conditions") or ():
        if condition.get("type") == "Ready" and condition.get("status") in ("False", "Unknown"):
            created = time_or_none(pod["metadata"].get("creationTimestamp"))
            return time_or_none(condition.get("lastTransitionTime")) or created
    return None


def _agent_state(status: Mapping[str, Any]) -> ContainerState:
    entries = _agent_entries(status)
    return container_report(entries[0]).state if entries else ContainerState.UNKNOWN


def _problem(status: Mapping[str, Any]) -> str:
    usual = ""
    # The agent's container waits for the init container: what keeps that one comes first.
    for entry in [*(status.get("initContainerStatuses") or ()), *_agent_entries(status)]:
        words = _container_problem(entry)
        if words and not tells_nothing(words):
            return words
        usual = words or usual
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            parts = (condition.get("reason"), condition.get("message"))
            return ": ".join(part for part in parts if part)
    parts = (status.get("reason"), status.get("message"))
    words = ": ".join(part for part in parts if part)
    return words or usual or str(status.get("phase") or "Pending")


def _agent_entries(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries = status.get("containerStatuses") or ()
    return [entry for entry in entries if entry.get("name") == AGENT_CONTAINER]


def _container_problem(entry: Mapping[str, Any]) -> str:
    """Why a container that is to run on does not; after a crash, with how it ended."""
    state = entry.get("state") or {}
    waiting, ended = state.get("waiting"), state.get("terminated")
    if waiting is not None:
        last = (entry.get("lastState") or {}).get("terminated")
        words = _words(waiting.get("reason"), waiting.get("message"))
        return words if last is None else f"{words} ({_end(last)})"
    if ended is not None and ended.get("exitCode") != 0:
        return _end(ended)
    return ""


def _end(terminated: Mapping[str, Any]) -> str:
    code = terminated.get("exitCode")
    reason = str(terminated.get("reason") or "Terminated")
    head = reason if code is None else f"{reason}, exit code {code}"
    return _words(head, terminated.get("message"))


def _words(reason: Any, message: Any) -> str:
    return ": ".join(str(part) for part in (reason, message) if part)


def tells_nothing(problem: str) -> bool:
    """Whether :attr:`PodView.problem` is what a kubelet says of any pod that it has begun with."""
    return problem.partition(":")[0] in _USUAL_WAITS or problem == "Pending"


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
    reason, code = detail.get("reason") or "", detail.get("exitCode")
    proven = isinstance(code, int) and reason in _SEEN_TO_END and code not in _NO_PROOF
    return ContainerReport(state, reason, detail.get("message") or "", code if proven else None)
