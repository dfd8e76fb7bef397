"""How the node reads pods: small accessors over raw JSON, and the values decisions are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

Json = dict[str, Any]

# Kubernetes' default, for a pod that a lenient server stored without it.
DEFAULT_TERMINATION_GRACE_S = 30.0


class ContainerKind(StrEnum):
    """The three lists of containers in a pod's spec."""

    INIT = "initContainers"
    REGULAR = "containers"
    EPHEMERAL = "ephemeralContainers"


class RestartPolicy(StrEnum):
    """``spec.restartPolicy``."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


class PodPhase(StrEnum):
    """``status.phase``."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class RunState(StrEnum):
    """What the node knows of the latest run of a container."""

    ABSENT = "absent"  # never started
    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class PodRef:
    """Which pod: a name may be used again, a UID never."""

    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, pod: Json) -> PodRef:
        """Read it off a pod."""
        meta = pod["metadata"]
        return cls(meta.get("namespace", "default"), meta["name"], meta["uid"])

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Terminated:
    """``state.terminated`` of a container.

    Attributes:
        exit_code: 128 + signal when a signal ended it.
        signal: 0 when none did.
        reason: ``Completed``, ``Error``, ``StartError``, ``OOMKilled`` or
            ``ContainerStatusUnknown``.
        message: for people; the container's termination message, or why it could not start.
        started_at: None when it never ran.
        finished_at: None when the shim did not record the end.
        container_id: of the run.
    """

    exit_code: int
    signal: int
    reason: str
    message: str
    started_at: datetime | None
    finished_at: datetime | None
    container_id: str


@dataclass(frozen=True, slots=True)
class ContainerView:
    """All that decisions and the status need to know of a container.

    Attributes:
        state: of the latest run.
        restarts: how often it was started again.
        container_id: of the latest run, empty when there was none.
        started_at: when the latest run began.
        terminated: how the latest run ended, when it did.
        last: how the run before it ended.
        waiting_reason: why it has not been started, when that was tried.
        waiting_message: the same for people.
        not_before: it is not to be started before this moment.
        image_id: of the image that it runs in, empty when it runs the host's programs.
    """

    state: RunState = RunState.ABSENT
    restarts: int = 0
    container_id: str = ""
    started_at: datetime | None = None
    terminated: Terminated | None = None
    last: Terminated | None = None
    waiting_reason: str = ""
    waiting_message: str = ""
    not_before: datetime | None = None
    image_id: str = ""


NO_VIEW = ContainerView()


def containers_of(pod: Json, *kinds: ContainerKind) -> Iterator[tuple[ContainerKind, Json]]:
    """Yield the containers of these lists (of all three when none is named), in spec order."""
    for kind in kinds or tuple(ContainerKind):
        for container in pod["spec"].get(kind.value) or ():
            yield kind, container


def is_sidecar(kind: ContainerKind, container: Json) -> bool:
    """Whether this is an init container that keeps running (KEP-753)."""
    return kind is ContainerKind.INIT and container.get("restartPolicy") == RestartPolicy.ALWAYS


def restart_policy(pod: Json) -> RestartPolicy:
    """Return the pod's restart policy."""
    return RestartPolicy(pod["spec"].get("restartPolicy") or RestartPolicy.ALWAYS)


def node_of(pod: Json) -> str:
    """Return the node the pod is bound to, or the empty string."""
    return str(pod["spec"].get("nodeName") or "")


def phase_of(pod: Json) -> str:
    """Return the phase that the API server knows."""
    return str((pod.get("status") or {}).get("phase") or "")


def is_finished(pod: Json) -> bool:
    """Whether the API server knows the pod as Succeeded or Failed: it never runs again."""
    return phase_of(pod) in (PodPhase.SUCCEEDED, PodPhase.FAILED)


def is_deleted(pod: Json) -> bool:
    """Whether deletion was asked for."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def grace_s(pod: Json) -> float:
    """Return how long the containers may take to stop, in seconds.

    A deletion's own grace goes before the spec's.
    """
    asked = pod["metadata"].get("deletionGracePeriodSeconds")
    if asked is None:
        asked = pod["spec"].get("terminationGracePeriodSeconds")
    return DEFAULT_TERMINATION_GRACE_S if asked is None else float(asked)
