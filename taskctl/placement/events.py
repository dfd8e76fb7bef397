"""What the machine is told. Each event is plain data; the same one twice changes nothing more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taskctl.errors import ApiError
from taskctl.objectkey import ObjectKey
from taskctl.placement.fleet import RetireReason
from taskctl.placement.queue import PendingTask
from taskctl.policy.view import TaskView


@dataclass(frozen=True, slots=True)
class Led:
    """From now on this controller may act; before, it only watches."""


@dataclass(frozen=True, slots=True)
class TimeCame:
    """The time of the last ``WakeAt`` has come, or has passed."""


@dataclass(frozen=True, slots=True)
class TaskSeen:
    """A Task is new, or has changed."""

    view: TaskView


@dataclass(frozen=True, slots=True)
class TaskGone:
    """A Task was removed."""

    uid: str


@dataclass(frozen=True, slots=True)
class TaskReady:
    """A Task is ready to be placed.

    Attributes:
        task: what the queue has to know of it.
        key: of the Task.
        cluster: key of its TaskCluster.
    """

    task: PendingTask
    key: ObjectKey
    cluster: ObjectKey


@dataclass(frozen=True, slots=True)
class TaskUnready:
    """A Task is not, or no longer, to be placed."""

    uid: str


@dataclass(frozen=True, slots=True)
class ClusterSeen:
    """A TaskCluster is new, or has changed.

    Attributes:
        raw: the object.
    """

    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClusterGone:
    """A TaskCluster was removed.

    Attributes:
        key: of the TaskCluster.
        uid: its UID.
    """

    key: ObjectKey
    uid: str


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A worker pod is new, or has changed.

    Attributes:
        raw: the object.
        first_list: it comes from the first list, so nothing is known of when it changed.
    """

    raw: Mapping[str, Any] = field(repr=False)
    first_list: bool = False


@dataclass(frozen=True, slots=True)
class PodGone:
    """A worker pod is not there any more.

    Attributes:
        uid: its UID.
        cluster_uid: UID of its TaskCluster, as its label said.
    """

    uid: str
    cluster_uid: str = ""


@dataclass(frozen=True, slots=True)
class RecordSeen:
    """A worker's handover record is new, or has changed.

    Attributes:
        raw: the object.
    """

    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RecordGone:
    """A worker's handover record is not there any more.

    Attributes:
        pod_uid: UID of the worker's pod.
    """

    pod_uid: str


@dataclass(frozen=True, slots=True)
class FleetPlanned:
    """A plan for a TaskCluster's workers was made.

    Attributes:
        cluster_uid: UID of the TaskCluster.
        retiring: by UID, the workers that get no more tasks.
        worn: UIDs of the workers that near their end.
    """

    cluster_uid: str
    retiring: Mapping[str, RetireReason]
    worn: frozenset[str]


@dataclass(frozen=True, slots=True)
class ClusterCounted:
    """The ready workers of a TaskCluster were counted.

    Attributes:
        key: of the TaskCluster.
        ready: workers that take tasks.
        why: why there are no more, for people.
    """

    key: ObjectKey
    ready: int
    why: str


@dataclass(frozen=True, slots=True)
class BatchStored:
    """The API server has taken the entries of an ``Append`` or a ``HandOver``.

    Attributes:
        batch: number of the batch.
    """

    batch: int


@dataclass(frozen=True, slots=True)
class BatchRefused:
    """The API server has refused an ``Append`` or a ``HandOver``, or has not answered.

    Attributes:
        batch: number of the batch.
        error: the answer.
        jitter: drawn from [0, 1); spreads the pause before the worker's next batch.
    """

    batch: int
    error: ApiError
    jitter: float


@dataclass(frozen=True, slots=True)
class BatchBroke:
    """A fault of this program has ended a batch.

    Attributes:
        batch: number of the batch.
        why: the error, for people.
    """

    batch: int
    why: str


@dataclass(frozen=True, slots=True)
class BatchPodRead:
    """The answer to ``ReadPod``.

    Attributes:
        batch: number of the batch.
        present: names of the ephemeral containers in the pod's spec; None: that pod is gone.
        jitter: as in :class:`BatchRefused`.
    """

    batch: int
    present: frozenset[str] | None
    jitter: float


Event = (
    Led
    | TimeCame
    | TaskSeen
    | TaskGone
    | TaskReady
    | TaskUnready
    | ClusterSeen
    | ClusterGone
    | PodSeen
    | PodGone
    | RecordSeen
    | RecordGone
    | FleetPlanned
    | ClusterCounted
    | BatchStored
    | BatchRefused
    | BatchBroke
    | BatchPodRead
)
