"""The runs of this worker: which container runs which attempt, and how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from taskctl.agent.journal import ToldRun
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.agent.settings import PodIdentity
from taskctl.policy.claim import ClaimEntry
from taskctl.wire import Message


class RunPhase(StrEnum):
    """How far a run is."""

    RUNNING = "running"  # taskctl-init was told; the command may be running
    ENDED = "ended"  # the exit was reported to us; the outcome is being written
    REPORTED = "reported"  # the outcome is in the API server, or nobody wants it


class StopReason(StrEnum):
    """Why a run is being stopped, as ``info`` tells the task."""

    CANCELLED = "Cancelled"
    DELETED = "Deleted"
    SUPERSEDED = "Superseded"
    TIMEOUT = "Timeout"
    WORKER_LOST = "WorkerLost"  # its pod is being stopped: deleted, evicted, drained


class Link(Protocol):
    """The connection of a container's taskctl-init."""

    def push(self, message: Message) -> None:
        """Send an unasked message; does not wait, never fails."""
        ...


@dataclass(frozen=True, slots=True)
class RecordedOutput:
    """The output of a run, once it cannot get lost any more.

    Attributes:
        name: of the TaskObject; empty: it is small and goes into the Task's status.
        digest: tells a repetition from a contradiction.
        value: the small one; never None then.
    """

    name: str
    digest: str
    value: Any = None


@dataclass(eq=False)
class Run:
    """One attempt in one container. Mutable; only the agent's event loop touches it.

    Attributes:
        told: what the journal knows of it.
        claim: the fence's view of it.
        task: the raw Task as last read; None after a restart, until it is needed.
        recovered: the agent was restarted since, so what it did before is not in memory.
        phase: how far it is.
        stop: why it is being stopped; None if it is not.
        link: the connection of its taskctl-init; None while it is gone.
        link_lost_s: when the connection went (monotonic); None while it is there.
        writes: children and outputs being written; the outcome waits for them.
        outcome: the task that writes the outcome; its result is the exit code.
        output: its output, once there is one.
        has_old_output: a TaskObject may be there that an earlier output of this Task has left.
        output_lock: one output at a time.
        deadline_s: when its time is up (monotonic), at the latest; None: no timeout, or the
            agent was restarted since.
        spawned: it has, or may have, asked for children.
        children: names of the children that it was told of, by UID; those that were told before
            the agent was restarted are missing.
        exit_code: what taskctl-init was told to exit with, once reported.
        sources: the tasks whose results are parts of its input, once it has asked for them.
        sources_lock: they are looked up once.
    """

    told: ToldRun
    claim: ClaimEntry
    task: dict[str, Any] | None = None
    recovered: bool = False
    phase: RunPhase = RunPhase.RUNNING
    stop: StopReason | None = None
    link: Link | None = None
    link_lost_s: float | None = None
    writes: set[asyncio.Task[Any]] = field(default_factory=set)
    outcome: asyncio.Task[int] | None = None
    output: RecordedOutput | None = None
    has_old_output: bool = False
    output_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    deadline_s: float | None = None
    spawned: bool = False
    children: dict[str, str] = field(default_factory=dict)
    exit_code: int = 0
    sources: Any = None
    sources_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def label(self) -> str:
        """What every log line about it carries."""
        return (
            f"task={self.told.task} uid={self.told.uid} attempt={self.told.attempt} "
            f"container={self.told.container}"
        )

    def check_running(self) -> None:
        """Make sure that the run may still act.

        Raises:
            Refusal: ``superseded``: it has ended, or another attempt has taken its place.
        """
        if self.phase is not RunPhase.RUNNING:
            raise Refusal(
                ErrorCode.SUPERSEDED, f"attempt {self.told.attempt} of {self.told.task} has ended"
            )
        if self.stop in (StopReason.DELETED, StopReason.SUPERSEDED):
            raise Refusal(
                ErrorCode.SUPERSEDED,
                f"attempt {self.told.attempt} of {self.told.task} is no longer wanted: {self.stop}",
            )

    def keep(self, task: dict[str, Any]) -> None:
        """Remember a state of the Task, unless a newer one is known."""
        if self.task is None or _version(task) >= _version(self.task):
            self.task = task


class Runs:
    """All runs of this agent's life and the lives before, by container."""

    def __init__(self) -> None:
        self._by_container: dict[str, Run] = {}

    def __iter__(self) -> Iterator[Run]:
        return iter(tuple(self._by_container.values()))

    def add(self, run: Run) -> None:
        """Add a run; a container has one run only."""
        self._by_container[run.told.container] = run

    def get(self, container: str) -> Run | None:
        """Return the run of a container, whatever its phase."""
        return self._by_container.get(container)

    def of_task(self, uid: str) -> list[Run]:
        """Return the runs of a Task that have not ended.

        More than one where an earlier attempt's container vanished without a word.
        """
        return [run for run in self if run.told.uid == uid and run.phase is RunPhase.RUNNING]

    def unreported(self) -> list[Run]:
        """Return the runs whose outcome may still have to be written."""
        return [run for run in self if run.phase is not RunPhase.REPORTED]

    def recover(self, told: list[ToldRun], pod: PodIdentity, now_s: float) -> None:
        """Take over the runs that the journal has.

        Args:
            told: all of them.
            pod: this agent's pod.
            now_s: monotonic; from now on the connections are missed.
        """
        for item in told:
            claim = ClaimEntry(
                task_uid=item.uid,
                attempt=item.attempt,
                container=item.container,
                pod_name=pod.name,
                pod_uid=pod.uid,
                placed="",
            )
            run = Run(
                told=item,
                claim=claim,
                recovered=True,
                spawned=True,
                has_old_output=True,
                link_lost_s=now_s,
            )
            if item.reported:
                run.phase = RunPhase.REPORTED
                run.exit_code = item.exit_code
            self.add(run)


def _version(obj: dict[str, Any]) -> int:
    """Return resourceVersion as a number; etcd's order, which everybody relies on."""
    text = obj["metadata"].get("resourceVersion", "")
    return int(text) if text.isdigit() else 0
