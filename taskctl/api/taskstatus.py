"""``Task.status``: what became of a Task. Written by taskctl only.

Field descriptions here become those of the CRD: ``kubectl explain task.status`` shows them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from taskctl.api import meta
from taskctl.api.meta import Condition, MicroTime, StatusModel
from taskctl.api.states import TaskState
from taskctl.api.treestatus import TreeStatus

PAST_ATTEMPTS_KEPT = 10


class TaskTimes(StatusModel):
    """When what happened, to the microsecond (RFC 3339, UTC). The latency receipt."""

    created: Annotated[MicroTime | None, Field(description="The Task was created.")] = None
    placed: Annotated[
        MicroTime | None, Field(description="The controller decided on the worker.")
    ] = None
    started: Annotated[
        MicroTime | None, Field(description="The container had started and claimed the attempt.")
    ] = None
    user_code: Annotated[MicroTime | None, Field(description="The command was started.")] = None
    exited: Annotated[MicroTime | None, Field(description="The command ended.")] = None
    observed: Annotated[MicroTime | None, Field(description="The outcome was recorded.")] = None


class Usage(StatusModel):
    """What the latest attempt used, as the kernel counted it (getrusage)."""

    user_seconds: Annotated[float | None, Field(ge=0, description="CPU seconds in user mode.")] = (
        None
    )
    system_seconds: Annotated[
        float | None, Field(ge=0, description="CPU seconds in the kernel.")
    ] = None
    max_rss_bytes: Annotated[
        int | None, Field(ge=0, description="Largest resident set, in bytes.")
    ] = None


class Progress(StatusModel):
    """What the task's own code reported last."""

    done: Annotated[int | None, Field(description="Units done.")] = None
    total: Annotated[int | None, Field(description="Units in all; 0: unknown.")] = None
    message: Annotated[str | None, Field(description="For people.")] = None


class Descendants(StatusModel):
    """Counts of the tree below a root, the root itself left out."""

    total: Annotated[int, Field(ge=0, description="All descendants made so far.")] = 0
    pending: Annotated[int, Field(ge=0, description="Pending or Scheduled.")] = 0
    running: Annotated[int, Field(ge=0, description="Running.")] = 0
    succeeded: Annotated[int, Field(ge=0, description="Succeeded.")] = 0
    failed: Annotated[int, Field(ge=0, description="Failed.")] = 0
    cancelled: Annotated[int, Field(ge=0, description="Cancelled.")] = 0
    skipped: Annotated[int, Field(ge=0, description="Skipped.")] = 0
    stopped: Annotated[
        int,
        Field(
            ge=0,
            description=(
                "Of the cancelled: how many were cancelled by a task of the tree itself, which no "
                "longer needed them. They do not make the tree fail."
            ),
        ),
    ] = 0


class PastAttempt(StatusModel):
    """An attempt that did not end the Task."""

    attempt: Annotated[int, Field(ge=1, description="Number of the attempt.")]
    pod_name: Annotated[str | None, Field(description="The worker it ran on.")] = None
    container_name: Annotated[
        str | None,
        Field(description="The container it ran in, if that was started ahead (standby)."),
    ] = None
    reason: Annotated[str | None, Field(description="Why it ended.")] = None
    exit_code: Annotated[
        int | None, Field(description="Exit code, if the command ended with one.")
    ] = None
    started: Annotated[MicroTime | None, Field(description="When it began.")] = None
    exited: Annotated[MicroTime | None, Field(description="When it ended.")] = None


class TaskStatus(StatusModel):
    """What became of the Task. Written by taskctl only."""

    state: Annotated[
        TaskState,
        Field(
            description="Pending (not placed yet), Scheduled (placed, its container is starting), "
            "Running, or one of the ends: Succeeded, Failed, Cancelled, Skipped (`when` asked for "
            "an outcome that did not come, so there was nothing to run)."
        ),
    ] = TaskState.PENDING
    reason: Annotated[
        str | None, Field(description="CamelCase word that says why, for example NonZeroExit.")
    ] = None
    message: Annotated[
        str | None,
        Field(description="The same for people; of a failed task with the end of its log."),
    ] = None
    cluster_name: Annotated[
        str | None, Field(description="TaskCluster that was made for the run (`spec.cluster`).")
    ] = None
    pod_name: Annotated[str | None, Field(description="Worker pod of the latest attempt.")] = None
    pod_uid: Annotated[str | None, Field(alias="podUID", description="UID of that pod.")] = None
    container_name: Annotated[
        str | None, Field(description="Ephemeral container in that pod; for `kubectl logs -c`.")
    ] = None
    output: Annotated[
        meta.RawValue,
        Field(
            description=(
                "The output itself, if a function returned a small value. Otherwise `outputObject` "
                "names the TaskObject that holds it."
            )
        ),
    ] = None
    output_object: Annotated[
        str | None, Field(description="Name of the TaskObject that holds the output.")
    ] = None
    attempt: Annotated[
        int | None,
        Field(ge=0, description="Number of the latest attempt; absent before the first."),
    ] = None
    failures: Annotated[
        int | None,
        Field(ge=0, description="Number of attempts that failed because of the task itself."),
    ] = None
    infra_failures: Annotated[
        int | None,
        Field(
            ge=0,
            description=(
                "Number of attempts that were lost with their worker or container. They do not "
                "count towards `retry.limit`."
            ),
        ),
    ] = None
    exit_code: Annotated[int | None, Field(description="Exit code of the command.")] = None
    signal: Annotated[int | None, Field(description="Signal that ended the command.")] = None
    root: Annotated[str | None, Field(description="Name of the tree's root Task.")] = None
    parent: Annotated[str | None, Field(description="Name of the Task that made this one.")] = None
    depth: Annotated[int | None, Field(ge=0, description="Level in the tree; a root has 0.")] = None
    runs: Annotated[
        str | None,
        Field(
            description="What it runs: function, script or program, and in brackets the key that "
            "its parent chose, for example `square[part-3]`."
        ),
    ] = None
    next_attempt_time: Annotated[
        MicroTime | None, Field(description="Time before which the next attempt does not start.")
    ] = None
    waiting_since: Annotated[
        MicroTime | None,
        Field(
            description=(
                "Time since which the running task has been waiting for its children. It takes no "
                "slot meanwhile. Absent while the task is not waiting."
            )
        ),
    ] = None
    defaults: Annotated[
        dict[str, Any] | None,
        Field(
            description=(
                "The fields that the latest attempt took from the TaskCluster's `taskDefaults`, in "
                "addition to the Task's spec."
            ),
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = None
    times: Annotated[
        TaskTimes | None, Field(description="Times of the stages of the latest attempt.")
    ] = None
    usage: Annotated[Usage | None, Field(description="CPU and memory of the latest attempt.")] = (
        None
    )
    progress: Annotated[
        Progress | None, Field(description="What the task's own code reported last.")
    ] = None
    descendants: Annotated[
        Descendants | None, Field(description="Counts of the tree below; on roots only.")
    ] = None
    tree: Annotated[
        TreeStatus | None, Field(description="State of the tree as a whole; on roots only.")
    ] = None
    attempts: Annotated[
        list[PastAttempt] | None,
        Field(
            max_length=PAST_ATTEMPTS_KEPT,
            description=f"Earlier attempts, newest last, {PAST_ATTEMPTS_KEPT} at most.",
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None
    observed_generation: Annotated[
        int | None, Field(ge=0, description="`metadata.generation` that taskctl has seen.")
    ] = None
    conditions: Annotated[
        list[Condition] | None,
        Field(
            max_length=20,
            description=(
                "Complete: this Task and all its descendants have ended. Succeeded: whether the "
                "Task succeeded (on a root: whether the whole tree did; a skipped Task does not "
                "count as a failure)."
            ),
            json_schema_extra=meta.map_list("type"),
        ),
    ] = None
