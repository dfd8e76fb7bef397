"""``Task.status.tree``: what taskctl keeps about the tree below a root."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from taskctl.api import meta
from taskctl.api.meta import MicroTime, StatusModel
from taskctl.api.states import DeliveryState, NotifyEvent, TaskState

MAX_SPAWNING = 1000
MAX_NOTIFICATIONS = 50


class Spawning(StatusModel):
    """A task that is creating children, in a tree with `limits.descendants`."""

    task: Annotated[str, Field(max_length=128, description="Its UID.")]
    children: Annotated[
        int, Field(ge=0, description="Number of children that the task may have so far.")
    ]


class ExitStatus(StatusModel):
    """What became of the task in `onExit`, in the latest run of the tree that has ended."""

    run: Annotated[
        int,
        Field(ge=1, description="Number of the run of the tree whose outcome the task is given."),
    ]
    task: Annotated[str, Field(max_length=253, description="Name of the Task.")]
    state: Annotated[
        TaskState,
        Field(description="State of the task. Failed also if the API server refused the task."),
    ]
    reason: Annotated[
        str | None, Field(description="CamelCase word that says why, once it has ended.")
    ] = None
    message: Annotated[str | None, Field(description="The same for people.")] = None
    finished: Annotated[
        MicroTime | None,
        Field(
            description=(
                "When the task had ended. `ttlSecondsAfterFinished` of the root and of its tree "
                "counts from then."
            )
        ),
    ] = None


class NotificationStatus(StatusModel):
    """What one receiver in `notify` is owed, was sent, or could not be sent."""

    id: Annotated[
        str,
        Field(
            max_length=128,
            description="The same for each attempt: `webhook-id`, and `id` of the CloudEvent.",
        ),
    ]
    notify: Annotated[int, Field(ge=0, description="Which of `spec.notify`, from 0.")]
    run: Annotated[int, Field(ge=1, description="The run of the tree.")]
    event: Annotated[NotifyEvent, Field(description="What it tells.")]
    time: Annotated[MicroTime, Field(description="When that was.")]
    state: Annotated[
        DeliveryState,
        Field(description="Owed: it is still to be sent. Sent: a 2xx came back. GivenUp."),
    ]
    attempts: Annotated[int, Field(ge=0, description="How often it was tried.")] = 0
    next: Annotated[MicroTime | None, Field(description="Not to be tried again before.")] = None
    reason: Annotated[
        str | None, Field(max_length=128, description="CamelCase word: why it was not sent.")
    ] = None
    message: Annotated[str | None, Field(description="The same for people.")] = None
    finished: Annotated[MicroTime | None, Field(description="When it was sent or given up.")] = None
    data: Annotated[
        meta.RawValue, Field(description="The event's data, for as long as it is owed.")
    ] = None


class TreeStatus(StatusModel):
    """What taskctl keeps about a tree; on roots only."""

    run: Annotated[
        int | None,
        Field(
            ge=1,
            description=(
                "Number of runs of the tree: 2 after the first `taskctl retry` of a tree that had "
                "ended. Absent: the tree was run once."
            ),
        ),
    ] = None
    since: Annotated[
        MicroTime | None,
        Field(
            description="When this run of the tree began; `treeTimeoutSeconds` counts from then. "
            "Absent in the first run, which begins with the creation of the root."
        ),
    ] = None
    timed_out: Annotated[
        MicroTime | None,
        Field(
            description=(
                "Time at which this run of the tree had lasted longer than `treeTimeoutSeconds`. "
                "Tasks that had not ended by then are stopped with the reason TreeTimeout."
            )
        ),
    ] = None
    descendants: Annotated[
        int | None,
        Field(
            ge=0,
            description=(
                "With `limits.descendants`: number of descendants that the root has had, including "
                "those that are being created. It does not fall when Tasks are deleted."
            ),
        ),
    ] = None
    spawning: Annotated[
        list[Spawning] | None,
        Field(
            max_length=MAX_SPAWNING,
            description=(
                "With `limits.descendants`: the tasks that are creating children at the moment. A "
                "part of the budget is set aside for each of them."
            ),
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None
    spawn_paid: Annotated[
        MicroTime | None,
        Field(
            description=(
                "With `limits.spawnRate`: time until which the children spawned so far use up the "
                "rate. If it has passed, the whole rate is available."
            )
        ),
    ] = None
    exit: Annotated[
        ExitStatus | None, Field(description="What became of the task in `onExit`.")
    ] = None
    notifications: Annotated[
        list[NotificationStatus] | None,
        Field(
            max_length=MAX_NOTIFICATIONS,
            description="What the receivers in `notify` have got of the latest run, and what they "
            "are still owed, also of earlier runs.",
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None
