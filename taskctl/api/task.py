"""The Task: one command in one container, and, through its children, a growing tree.

Field descriptions here become those of the CRD: ``kubectl explain task.spec`` shows them.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from taskctl.api import containerfields, meta
from taskctl.api.graphcheck import complaint
from taskctl.api.inputfrom import MAX_SOURCES, InputSource, check_groups
from taskctl.api.limits import Limits
from taskctl.api.lineage import Lineage
from taskctl.api.meta import INT32_MAX, GroupName, Name, ObjectMeta, SpecModel
from taskctl.api.notify import CHILD_NOTIFY_MESSAGE, MAX_NOTIFY, Notify
from taskctl.api.onexit import CHILD_ON_EXIT_MESSAGE, ExitTask
from taskctl.api.retry import Retry, TtlSecondsAfterFinished
from taskctl.api.runafter import RunAfter
from taskctl.api.states import CancelScope, When
from taskctl.api.taskcluster import TaskClusterSpec
from taskctl.api.taskresources import TaskResources
from taskctl.api.taskrules import (
    AFTER_ITSELF_MESSAGE,
    CANCEL_MESSAGE,
    CHILD_CLUSTER_MESSAGE,
    CHILD_TREE_TIMEOUT_MESSAGE,
    COMMAND_MESSAGE,
    ENDED_STATES,
    INPUT_MESSAGE,
    LINEAGE_MESSAGE,
    MAX_TASK_NAME,
    MEMBER_NAME_MESSAGE,
    MIN_SUCCESS_ALWAYS_MESSAGE,
    NAME_MESSAGE,
    ONE_CLUSTER_MESSAGE,
    PARAMS_MESSAGE,
    ROOT_TASKS_MESSAGE,
    TASKS_RULES,
    TOO_MANY_TASKS_MESSAGE,
    add_spec_rules,
)
from taskctl.api.taskstatus import TaskStatus
from taskctl.api.tasktemplate import MAX_PARAMS, MAX_TASKS, Param, TaskTemplate

_Seconds = Annotated[int, Field(ge=1, le=INT32_MAX)]

_STARTABLE_ARGUMENTS = meta.validations(*meta.startable_list("an argument", "{item}"))
_STARTABLE_VARIABLES = meta.validations(
    *meta.startable_list(
        "a variable, name and value,", "{item}.name", "(has({item}.value) ? {item}.value : '')"
    )
)


class TaskSpec(SpecModel):
    """What to run, where, and what to do when it fails."""

    model_config = ConfigDict(json_schema_extra=add_spec_rules)

    cluster_name: Annotated[
        Name | None,
        Field(
            pattern=meta.DNS_SUBDOMAIN,
            description=(
                "Name of the TaskCluster, in the same namespace, whose workers run the Task. "
                "Cannot be combined with `cluster`."
            ),
        ),
    ] = None
    cluster: Annotated[
        TaskClusterSpec | None,
        Field(
            description=(
                "For a root, instead of `clusterName`: the spec of a TaskCluster for this run "
                "alone, with its own workers and workspace. taskctl creates it when the run starts "
                "(`status.clusterName` names it), ends its workers some time after the run, and "
                "deletes it with the Task."
            )
        ),
    ] = None
    image: Annotated[
        containerfields.Image | None,
        Field(
            description=(
                "Container image that holds the command. On the local stack, an image that was not "
                "added with `taskctl image` is not pulled: the programs of the machine run "
                "instead. Default: the image in the TaskCluster's `taskDefaults`. If there is no "
                "image in either, the Task waits."
            ),
        ),
    ] = None
    command: Annotated[
        list[meta.LongText],
        Field(
            max_length=meta.MAX_COMMAND_ITEMS,
            description="Program and its first arguments. Default: that of the TaskCluster's "
            "`taskDefaults`. The ENTRYPOINT of the image is not used.",
            default_factory=list,
            json_schema_extra=meta.ATOMIC_LIST | _STARTABLE_ARGUMENTS,
        ),
    ]
    args: Annotated[
        list[meta.LongText] | None,
        Field(
            max_length=meta.MAX_COMMAND_ITEMS,
            description="Further arguments, added to `command`.",
            json_schema_extra=meta.ATOMIC_LIST | _STARTABLE_ARGUMENTS,
        ),
    ] = None
    env: Annotated[
        containerfields.Env | None,
        Field(
            description="Environment variables, added to those of the image and of the "
            "TaskCluster's `taskDefaults`.",
            json_schema_extra=meta.map_list("name") | _STARTABLE_VARIABLES,
        ),
    ] = None
    working_dir: Annotated[
        containerfields.WorkingDir | None,
        Field(
            description="Directory to start in. Default: that of the TaskCluster's "
            "`taskDefaults`, or of the image.",
        ),
    ] = None
    input_object: Annotated[
        Name | None,
        Field(
            description=(
                "Name of a TaskObject, in the same namespace, that holds the input. The Task waits "
                "until the TaskObject exists. Cannot be combined with `input`."
            ),
        ),
    ] = None
    input: Annotated[
        meta.RawValue,
        Field(
            description=(
                "The input itself: any JSON value. Cannot be combined with `inputObject`. For more "
                "than a few kilobytes use a TaskObject. When a task spawns a function, its "
                "arguments stand here if they are small."
            )
        ),
    ] = None
    input_from: Annotated[
        list[InputSource] | None,
        Field(
            max_length=MAX_SOURCES,
            description=(
                "Results of other Tasks that become parts of the input when the task asks for its "
                "input. They are always the results of the last attempts. The Tasks must be of the "
                "same tree; a root may also name other roots. The Task waits for them as if "
                "`runAfter` named them."
            ),
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None
    run_after: Annotated[RunAfter | None, Field(description="Wait for these tasks to finish.")] = (
        None
    )
    when: Annotated[
        When,
        Field(
            description=(
                "Run this Task if the tasks in `runAfter` ended like this. Success (the default): "
                "all of them succeeded, or as many as `minSuccess` says. Otherwise this Task fails "
                "with DependencyFailed, or is Skipped if only skipped tasks are missing. Failure: "
                "at least one of them failed or was cancelled (with `minSuccess`: fewer "
                "succeeded). Otherwise this Task is Skipped, which does not count as a failure of "
                "its tree. Always: all of them finished."
            ),
        ),
    ] = When.SUCCESS
    group: Annotated[
        GroupName | None,
        Field(
            description="Name of the Task's group, chosen by you; a valid label value.",
        ),
    ] = None
    tasks: Annotated[
        list[TaskTemplate] | None,
        Field(
            min_length=1,
            max_length=MAX_TASKS,
            description="A graph in one object: this Task is the root of a tree with these tasks, "
            "and runs no container itself. It succeeds if its whole tree does. Its other fields "
            f"are the defaults of its tasks. At most {MAX_TASKS}.",
            json_schema_extra=TASKS_RULES,
        ),
    ] = None
    params: Annotated[
        list[Param] | None,
        Field(
            max_length=MAX_PARAMS,
            description=(
                "Values for all of `tasks`. The tasks get them as environment variables, and they "
                "replace `{{params.NAME}}` in image, command, args, env, workingDir and input of "
                "the tasks. `taskctl submit -f FILE -p NAME=VALUE` sets them."
            ),
            json_schema_extra=meta.map_list("name"),
        ),
    ] = None
    retry: Annotated[
        Retry | None,
        Field(
            description="What to do after a failed attempt. Default: that of the TaskCluster's "
            "`taskDefaults`, or nothing."
        ),
    ] = None
    timeout_seconds: Annotated[
        _Seconds | None,
        Field(
            description=(
                "Seconds that one attempt may run. Then the task gets SIGTERM and, after a grace "
                "period, SIGKILL, and the attempt fails with Timeout. Default: the value in the "
                "TaskCluster's `taskDefaults`, or no limit."
            )
        ),
    ] = None
    start_deadline_seconds: Annotated[
        _Seconds | None,
        Field(
            description="Seconds that a placed attempt may wait for its container to start (an "
            "image that cannot be pulled, for example) before the Task fails with "
            "StartDeadlineExceeded. Default: that of the TaskCluster's `taskDefaults`, or 300."
        ),
    ] = None
    tree_timeout_seconds: Annotated[
        _Seconds | None,
        Field(
            description=(
                "For a root: seconds that the whole tree may take, counted from the creation of "
                "the root or from the `taskctl retry` that ran it again. Waiting counts. When they "
                "are over, running tasks are stopped, waiting tasks never start, and the tree "
                "fails with TreeTimeout. Not set: no limit."
            )
        ),
    ] = None
    on_exit: Annotated[
        ExitTask | None,
        Field(
            description=(
                "For a root: a task that runs once after the tree has ended, whatever the outcome "
                "(success, failure, cancellation or timeout), and gets the outcome as its input. "
                "It is a root of its own, is deleted with this one, and does not count in this "
                "tree's outcome."
            )
        ),
    ] = None
    notify: Annotated[
        list[Notify] | None,
        Field(
            min_length=1,
            max_length=MAX_NOTIFY,
            description="Of a root: whom the controller tells when the tree has ended and, if "
            "asked for, begun. At least once each; what became of it is in "
            "`status.tree.notifications` and in the condition Notified.",
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None
    ttl_seconds_after_finished: Annotated[
        TtlSecondsAfterFinished | None,
        Field(
            description=(
                "When to delete the finished Task. Can be changed. Default: the value in the "
                "TaskCluster's `taskDefaults`, or never. null, or {}, means never, whatever the "
                "TaskCluster says."
            ),
            json_schema_extra={"nullable": True},
        ),
    ] = None
    priority: Annotated[
        int,
        Field(
            ge=-INT32_MAX - 1,
            le=INT32_MAX,
            description=(
                "Tasks with a higher priority run first. Can be changed while the Task waits. "
                "Default 0."
            ),
        ),
    ] = 0
    slots: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description=(
                "Number of a worker's slots (`slotsPerWorker`) that the Task takes while it runs. "
                "Default 1."
            ),
        ),
    ] = 1
    resources: Annotated[
        TaskResources | None,
        Field(
            description="CPU and memory of the task. Default: those of the TaskCluster's "
            "`taskDefaults`, or none: then nothing is counted or limited."
        ),
    ] = None
    suspend: Annotated[
        bool | None,
        Field(
            description=(
                "While true, the Task does not start; for a root, no task of its tree starts. "
                "Tasks that are running already continue. Can be changed."
            )
        ),
    ] = None
    cancel: Annotated[
        bool | None,
        Field(
            description=(
                "Set to true to stop the Task and all its descendants. Running tasks get SIGTERM "
                "and, after a grace period, SIGKILL; waiting tasks never start. Can be set back to "
                "false when the Task has ended, to run it again; `taskctl retry` does so."
            )
        ),
    ] = None
    cancel_scope: Annotated[
        CancelScope | None,
        Field(
            description=(
                "What `cancel` stops. Tree (the default): the Task and its descendants. Task: this "
                "Task alone; its descendants keep running."
            )
        ),
    ] = None
    read_only_workspace: Annotated[
        bool | None, Field(description="Mount the shared workspace read-only. Default false.")
    ] = None
    limits: Annotated[Limits | None, Field(description="Budgets of the tree below this Task.")] = (
        None
    )
    lineage: Annotated[
        Lineage | None,
        Field(
            description=(
                "The parent and root of the Task. taskctl writes it for Tasks that other tasks "
                "spawn; leave it out."
            )
        ),
    ] = None

    @field_validator("command")
    @classmethod
    def _command_given(cls, command: list[str]) -> list[str]:
        if not command:
            raise ValueError(COMMAND_MESSAGE)
        return command

    @model_validator(mode="after")
    def _one_cluster(self) -> Self:
        if (self.cluster_name is None) == (self.cluster is None):
            raise ValueError(ONE_CLUSTER_MESSAGE)
        if self.lineage is not None and self.cluster is not None:
            raise ValueError(CHILD_CLUSTER_MESSAGE)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.input_object is not None and "input" in self.model_fields_set:
            raise ValueError(INPUT_MESSAGE)
        after = self.run_after
        if after is not None and after.min_success is not None and self.when is When.ALWAYS:
            raise ValueError(MIN_SUCCESS_ALWAYS_MESSAGE)
        check_groups(self.input_from or (), None if after is None else after.group)
        return self

    @model_validator(mode="after")
    def _consistent_as_a_tree(self) -> Self:
        if self.lineage is not None and (self.tasks is not None or self.params is not None):
            raise ValueError(ROOT_TASKS_MESSAGE)
        if self.params is not None and self.tasks is None:
            raise ValueError(PARAMS_MESSAGE)
        if self.tasks is not None or self.params is not None:
            wrong = complaint(self.to_json())
            if wrong is not None:
                raise ValueError(wrong)
        most = None if self.limits is None else self.limits.descendants
        if most is not None and len(self.tasks or ()) > most:
            raise ValueError(TOO_MANY_TASKS_MESSAGE)
        if self.lineage is not None and self.tree_timeout_seconds is not None:
            raise ValueError(CHILD_TREE_TIMEOUT_MESSAGE)
        if self.lineage is not None and self.on_exit is not None:
            raise ValueError(CHILD_ON_EXIT_MESSAGE)
        if self.lineage is not None and self.notify is not None:
            raise ValueError(CHILD_NOTIFY_MESSAGE)
        return self


class Task(SpecModel):
    """A Task runs one command in a container on a warm worker of a TaskCluster."""

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel(f"size(self.metadata.name) <= {MAX_TASK_NAME}", NAME_MESSAGE),
            meta.cel(
                "!has(self.spec.lineage) || self.spec.lineage.task == self.metadata.name",
                LINEAGE_MESSAGE,
                field_path=".spec.lineage",
            ),
            meta.cel(
                "!(has(oldSelf.spec.cancel) && oldSelf.spec.cancel)"
                " || (has(self.spec.cancel) && self.spec.cancel)"
                " || (has(oldSelf.status) && has(oldSelf.status.state)"
                f" && oldSelf.status.state in {ENDED_STATES})",
                CANCEL_MESSAGE,
                field_path=".spec.cancel",
            ),
            meta.cel(
                "!has(self.spec.tasks) || self.spec.tasks.all(t,"
                f" size(self.metadata.name) + size(t.name) < {MAX_TASK_NAME})",
                MEMBER_NAME_MESSAGE,
                field_path=".spec.tasks",
            ),
            meta.cel(
                "!has(self.spec.runAfter) || !has(self.spec.runAfter.tasks)"
                " || !(self.metadata.name in self.spec.runAfter.tasks)",
                AFTER_ITSELF_MESSAGE,
                field_path=".spec.runAfter.tasks",
            ),
        )
    )
    api_version: Literal["taskctl.dev/v1alpha1"] = "taskctl.dev/v1alpha1"
    kind: Literal["Task"] = "Task"
    metadata: ObjectMeta
    spec: TaskSpec
    status: TaskStatus = Field(default_factory=TaskStatus)

    @model_validator(mode="after")
    def _name_fits(self) -> Self:
        if len(self.metadata.name or "") > MAX_TASK_NAME:
            raise ValueError(NAME_MESSAGE)
        for template in self.spec.tasks or ():
            if len(self.metadata.name or "") + len(template.name) >= MAX_TASK_NAME:
                raise ValueError(MEMBER_NAME_MESSAGE)
        lineage = self.spec.lineage
        if lineage is not None and lineage.task != self.metadata.name:
            raise ValueError(LINEAGE_MESSAGE)
        return self

    @model_validator(mode="after")
    def _not_after_itself(self) -> Self:
        after = self.spec.run_after
        if after is not None and self.metadata.name in after.tasks:
            raise ValueError(AFTER_ITSELF_MESSAGE)
        return self
