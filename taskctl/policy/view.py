"""Frozen views of raw Kubernetes objects: what the policies look at, and nothing else.

Parsed by hand from plain dicts, because a controller parses one on every event; pydantic
is kept for the edge (:mod:`taskctl.api`). A view holds references into the object it was
parsed from; objects from a store are read-only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from taskctl.api.states import CancelScope, TaskState
from taskctl.clock import parse_time
from taskctl.constants import (
    ANNOTATION_CREATED,
    ANNOTATION_STOP_REASON,
    ANNOTATION_STOPPED_BY,
    ANNOTATION_TRACEPARENT,
    PARKED_PREFIX,
    Reason,
)
from taskctl.policy.runcluster import run_cluster_name
from taskctl.policy.taskdefaults import filled

DEFAULT_START_DEADLINE_S: Final = 300
_CREATED_TOLERANCE_S: Final = 2.0
_EMPTY: Final[Mapping[str, Any]] = {}
_STATES: Final[Mapping[str, TaskState]] = {state.value: state for state in TaskState}


@dataclass(frozen=True, slots=True)
class TaskView:
    """A Task as policies see it.

    Attributes:
        namespace: ``metadata.namespace``.
        name: ``metadata.name``.
        uid: ``metadata.uid``; a Task made again under the same name has another one.
        generation: ``metadata.generation``, for ``observedGeneration``.
        resource_version: guards every status write.
        created: when it was created, as text: to the microsecond if its creator noted that,
            else ``metadata.creationTimestamp`` (whole seconds).
        traceparent: trace context that its root was submitted with, as text; or empty.
        deleting: ``metadata.deletionTimestamp`` is set.
        root_uid: UID of the tree's root; its own for a root.
        root_name: name of the tree's root; its own for a root.
        parent_uid: UID of the Task that made this one; empty for a root.
        parent_name: its name; empty for a root.
        depth: level in the tree; 0 for a root.
        stopped_by: name of the task above that cancelled it, since it needs it no more; or empty.
        stopped_by_timeout: taskctl has cancelled it, since its tree had run out of time.
        state: ``status.state``; a word this version does not know counts as Pending,
            as the fence is ``attempt``, not the word.
        attempt: number of the latest attempt begun or written off; 0 before the first.
        failures: attempts that failed by the task's own doing.
        infra_failures: attempts lost with their worker or container.
        pod_name: worker of the latest attempt, or empty.
        pod_uid: UID of that pod, or empty.
        container: ephemeral container of the latest attempt, or empty.
        spec: ``spec``, with the defaults of its TaskCluster in the gaps.
        status: raw ``status``.
        own_spec: raw ``spec``.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    created: str
    traceparent: str
    deleting: bool
    root_uid: str
    root_name: str
    parent_uid: str
    parent_name: str
    depth: int
    stopped_by: str
    stopped_by_timeout: bool
    state: TaskState
    attempt: int
    failures: int
    infra_failures: int
    pod_name: str
    pod_uid: str
    container: str
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    own_spec: Mapping[str, Any]

    @property
    def is_root(self) -> bool:
        """Whether this Task is the root of its tree."""
        return self.root_uid == self.uid

    @property
    def is_graph(self) -> bool:
        """Whether it is a root with tasks (``spec.tasks``), which runs nothing itself."""
        return bool(self.spec.get("tasks")) and self.is_root

    @property
    def cancel(self) -> bool:
        """``spec.cancel``."""
        return bool(self.spec.get("cancel"))

    @property
    def cancels_tree(self) -> bool:
        """Whether it is cancelled together with its descendants (``spec.cancelScope``)."""
        return self.cancel and self.spec.get("cancelScope") != CancelScope.TASK

    @property
    def cancel_reason(self) -> Reason:
        """The reason of its end, if it ends since it is cancelled."""
        if self.stopped_by_timeout:
            return Reason.TREE_TIMEOUT
        return Reason.STOPPED if self.stopped_by else Reason.CANCELLED

    def limit(self, name: str) -> int | None:
        """Return a budget of ``spec.limits``, by its name there; None: it is not set."""
        value = (self.spec.get("limits") or _EMPTY).get(name)
        return None if value is None else int(value)

    @property
    def tree_timeout_s(self) -> int | None:
        """``spec.treeTimeoutSeconds`` of a root; None: no limit, or no root."""
        limit_s = self.spec.get("treeTimeoutSeconds") if self.is_root else None
        return None if limit_s is None else int(limit_s)

    @property
    def tree_timed_out(self) -> bool:
        """Whether it is a root whose tree was found to have run out of time."""
        return self.is_root and bool((self.status.get("tree") or _EMPTY).get("timedOut"))

    @property
    def tree_since(self) -> datetime | None:
        """``status.tree.since`` of a root: when its tree was run again; None: it never was."""
        return time_or_none((self.status.get("tree") or _EMPTY).get("since"))

    @property
    def suspend(self) -> bool:
        """``spec.suspend``."""
        return bool(self.spec.get("suspend"))

    @property
    def cluster(self) -> str:
        """The TaskCluster that it runs in: ``spec.clusterName``, or that of its own run."""
        if self.spec.get("cluster") is not None and "clusterName" not in self.spec:
            return run_cluster_name(self.name, self.uid)
        return str(self.spec.get("clusterName", ""))

    @property
    def priority(self) -> int:
        """``spec.priority``; 0 where absent."""
        return int(self.spec.get("priority") or 0)

    @property
    def slots(self) -> int:
        """``spec.slots``; 1 where absent."""
        return int(self.spec.get("slots") or 1)

    @property
    def waits_for_children(self) -> bool:
        """Whether it runs and does nothing but wait for its children."""
        return self.state is TaskState.RUNNING and bool(self.status.get("waitingSince"))

    @property
    def slots_taken(self) -> int:
        """How many slots it takes now, if it is placed: none while it waits for its children.

        When it resumes its worker may have more than it has slots for, until others end: were it
        to wait for a slot, a tree that is deeper than the slots would never end.
        """
        return 0 if self.waits_for_children else self.slots

    @property
    def input_object(self) -> str:
        """``spec.inputObject``, or empty."""
        return str(self.spec.get("inputObject") or "")

    @property
    def run_after(self) -> tuple[str, ...]:
        """``spec.runAfter.tasks``: names in the same namespace."""
        return tuple((self.spec.get("runAfter") or _EMPTY).get("tasks") or ())

    @property
    def start_deadline_s(self) -> int:
        """``spec.startDeadlineSeconds``."""
        return int(self.spec.get("startDeadlineSeconds") or DEFAULT_START_DEADLINE_S)

    @property
    def parked_container(self) -> str:
        """The container of the latest attempt, if it was a parked one; else empty.

        The names of all others follow from UID and attempt.
        """
        return self.container if self.container.startswith(PARKED_PREFIX) else ""

    @property
    def next_attempt(self) -> int:
        """Number that the next attempt will have."""
        return self.attempt + 1

    @property
    def next_attempt_time(self) -> datetime | None:
        """``status.nextAttemptTime``: the end of a back-off."""
        return time_or_none(self.status.get("nextAttemptTime"))


def parse_task(task: Mapping[str, Any]) -> TaskView:
    """Return the view of a raw Task.

    Where its latest attempt was claimed, the defaults of its TaskCluster are those that the
    attempt had; see :func:`with_defaults` for one that waits.

    Raises:
        KeyError: ``metadata`` lacks ``name`` or ``uid``: not an object from the API server.
    """
    metadata = task["metadata"]
    annotations = metadata.get("annotations") or _EMPTY
    status = task.get("status") or _EMPTY
    uid, name = metadata["uid"], metadata["name"]
    spec = task.get("spec") or _EMPTY
    lineage = lineage_of(task)
    return TaskView(
        namespace=metadata.get("namespace", ""),
        name=name,
        uid=uid,
        generation=metadata.get("generation") or 0,
        resource_version=metadata.get("resourceVersion", ""),
        created=_created(metadata.get("creationTimestamp", ""), annotations),
        traceparent=annotations.get(ANNOTATION_TRACEPARENT) or "",
        deleting=bool(metadata.get("deletionTimestamp")),
        root_uid=uid if lineage is None else lineage["rootUID"],
        root_name=name if lineage is None else lineage["root"],
        parent_uid="" if lineage is None else lineage["parentUID"],
        parent_name="" if lineage is None else lineage["parent"],
        depth=0 if lineage is None else lineage["depth"],
        stopped_by="" if lineage is None else annotations.get(ANNOTATION_STOPPED_BY) or "",
        stopped_by_timeout=annotations.get(ANNOTATION_STOP_REASON) == Reason.TREE_TIMEOUT,
        state=_STATES.get(status.get("state", ""), TaskState.PENDING),
        attempt=status.get("attempt") or 0,
        failures=status.get("failures") or 0,
        infra_failures=status.get("infraFailures") or 0,
        pod_name=status.get("podName") or "",
        pod_uid=status.get("podUID") or "",
        container=status.get("containerName") or "",
        spec=filled(spec, status.get("defaults") or _EMPTY),
        status=status,
        own_spec=spec,
    )


def with_defaults(view: TaskView, defaults: Mapping[str, Any]) -> TaskView:
    """Return the view as its TaskCluster's defaults make it now.

    An attempt that was claimed keeps what it was claimed with.

    Args:
        view: the Task.
        defaults: ``spec.taskDefaults`` of its TaskCluster.
    """
    waits = view.state in (TaskState.PENDING, TaskState.SCHEDULED)
    if not waits and view.pod_uid:
        return view
    spec = filled(view.own_spec, defaults)
    return view if spec is view.spec else replace(view, spec=spec)


def _created(stamp: str, annotations: Mapping[str, str]) -> str:
    """Return the creator's note if the API server's own second bears it out, else that second."""
    noted = annotations.get(ANNOTATION_CREATED)
    exact, second = time_or_none(noted), time_or_none(stamp)
    if noted is None or exact is None or second is None:
        return stamp
    # Creators' clocks may differ from the server's a little, and the note is made just before.
    return noted if abs((exact - second).total_seconds()) <= _CREATED_TOLERANCE_S else stamp


def lineage_of(task: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return ``spec.lineage`` of a child; None for a root.

    It does not come from labels, as every user who may edit a Task may write those. The lineage
    cannot be changed, and in a copy of the object it names another Task: the copy is a root.
    """
    lineage: Mapping[str, Any] | None = (task.get("spec") or _EMPTY).get("lineage")
    if not lineage or lineage.get("task") != task["metadata"]["name"]:
        return None
    return lineage


def time_or_none(text: object) -> datetime | None:
    """Parse RFC 3339; None where the field is absent or malformed (written by a stranger)."""
    if not isinstance(text, str):
        return None
    try:
        return parse_time(text)
    except ValueError:
        return None
