"""What the machine wants done. Whoever carries it out reports back with an event, if any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from taskctl.objectkey import ObjectKey


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send ``TimeCame`` at that time; an earlier wish is replaced by this one.

    Attributes:
        at_s: the time (monotonic).
    """

    at_s: float


@dataclass(frozen=True, slots=True)
class Append:
    """Append containers to a worker's pod: one patch. The answer is an event of that batch.

    Attributes:
        batch: number of the batch.
        pod: key of the worker's pod.
        pod_uid: its UID, which guards the patch.
        entries: the ephemeral containers, at least one.
    """

    batch: int
    pod: ObjectKey
    pod_uid: str
    entries: tuple[Mapping[str, Any], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class HandOver:
    """Change a worker's handover record, and make it if need be; answered like an ``Append``.

    Attributes:
        batch: number of the write.
        pod: key of the worker's pod.
        pod_uid: its UID.
        cluster_uid: UID of its TaskCluster.
        record: name of the record.
        changes: entries by container; None: to be taken out.
    """

    batch: int
    pod: ObjectKey
    pod_uid: str
    cluster_uid: str
    record: str
    changes: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class ReadPod:
    """Read a worker's pod from the API server, for as long as it takes to get an answer.

    Attributes:
        batch: number of the batch.
        pod: key of the pod.
        pod_uid: its UID; another pod of that name counts as none.
    """

    batch: int
    pod: ObjectKey
    pod_uid: str


@dataclass(frozen=True, slots=True)
class LookAtTask:
    """Have a Task reconciled.

    Attributes:
        task: its key.
        after_s: in so many seconds.
    """

    task: ObjectKey
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LookAtCluster:
    """Have a TaskCluster reconciled.

    Attributes:
        cluster: its key.
        after_s: in so many seconds.
    """

    cluster: ObjectKey
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ReleasePod:
    """Look whether a worker's pod may go, and remove taskctl's finalizer from it if so.

    Attributes:
        pod_uid: its UID.
    """

    pod_uid: str


@dataclass(frozen=True, slots=True)
class TellLoss:
    """Publish that a worker is gone with tasks on it.

    Attributes:
        cluster: key of its TaskCluster.
        message: for people.
    """

    cluster: ObjectKey
    message: str


@dataclass(frozen=True, slots=True)
class TellLimit:
    """Publish that a tree's ``limits.liveTasks`` holds up some of it.

    Attributes:
        root: key of its root.
        message: for people.
    """

    root: ObjectKey
    message: str


class LogSeverity(Enum):
    """How loud."""

    INFO = auto()
    WARNING = auto()


@dataclass(frozen=True, slots=True)
class Log:
    """Write a line to the log.

    Attributes:
        level: how loud.
        message: the line.
    """

    level: LogSeverity
    message: str


Instruction = (
    WakeAt
    | Append
    | HandOver
    | ReadPod
    | LookAtTask
    | LookAtCluster
    | ReleasePod
    | TellLoss
    | TellLimit
    | Log
)
