"""A graph in one object: ``spec.tasks`` of a root, and ``spec.params``."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from taskctl.api import containerfields, meta, rootfields
from taskctl.api.inputfrom import ONE_SOURCE, InputPlace, check_one_source
from taskctl.api.meta import INT32_MAX, GroupName, Name, SpecModel
from taskctl.api.retry import Retry, TtlSecondsAfterFinished
from taskctl.api.rootfields import FROM_ROOT
from taskctl.api.states import When
from taskctl.api.taskenv import NOT_OURS
from taskctl.api.taskresources import TaskResources

MAX_TASKS = 100
MAX_PARAMS = 100
_Label = Annotated[str, Field(min_length=1, max_length=meta.MAX_LABEL)]


class Param(SpecModel):
    """A value that the tasks of a root are given as a whole."""

    model_config = ConfigDict(
        json_schema_extra=meta.validations(
            meta.cel(
                "has(self.value) || has(self.default)",
                "has no value; set value (taskctl submit -p NAME=VALUE), or give it a default",
            ),
            NOT_OURS,
        )
    )
    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=meta.MAX_LABEL,
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            description="Name of the parameter, and of the environment variable.",
        ),
    ]
    value: Annotated[
        str | None,
        Field(max_length=meta.MAX_TEXT, description="The value. Default: that of `default`."),
    ] = None
    default: Annotated[
        str | None,
        Field(max_length=meta.MAX_TEXT, description="Used if `value` is not set."),
    ] = None

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.value is None and self.default is None:
            raise ValueError(
                f"{self.name} has no value; set value (taskctl submit -p {self.name}=VALUE), or "
                "give it a default"
            )
        if self.name.startswith("TASKCTL_"):
            raise ValueError("names that begin with TASKCTL_ are taskctl's own; choose another")
        return self


class TemplateSource(SpecModel):
    """The result of a task of the same root, or those of several, as a part of the input."""

    model_config = ConfigDict(json_schema_extra=meta.validations(ONE_SOURCE))
    path: InputPlace = ""
    task: Annotated[
        _Label | None,
        Field(
            description=(
                "Name of the task of the same root whose output goes there; null if that task did "
                "not succeed or has no output."
            )
        ),
    ] = None
    tasks: Annotated[
        list[_Label] | None,
        Field(
            max_length=MAX_TASKS,
            description="Names of tasks of the same root whose outputs go there as an array.",
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None
    group: Annotated[
        GroupName | None,
        Field(
            description="The outputs of all members of a group of the tree go there as an array, "
            "in the order of their creation. `runAfterGroup` must name the group too."
        ),
    ] = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        check_one_source(self.task, self.tasks, self.group)
        return self


class TaskTemplate(SpecModel):
    """One task of a root. What it leaves out it takes from the root."""

    model_config = ConfigDict(json_schema_extra={"not": {"required": ["input", "inputObject"]}})

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=meta.MAX_LABEL,
            pattern=meta.DNS_LABEL,
            description="Name among the tasks of the root. The Task is called `<root>-<name>`.",
        ),
    ]
    image: rootfields.Image = None
    command: Annotated[
        containerfields.Command | None,
        Field(
            description="Program and its first arguments. Default: command and args of the root.",
        ),
    ] = None
    args: rootfields.Arguments = None
    env: Annotated[
        containerfields.Env | None,
        Field(
            description="Environment variables, added to those of the root and to its parameters.",
        ),
    ] = None
    working_dir: rootfields.WorkingDir = None
    input_object: Annotated[
        Name | None,
        Field(description=f"Name of the TaskObject with the input. {FROM_ROOT}"),
    ] = None
    input: Annotated[
        meta.RawValue,
        Field(
            description="The input itself: any JSON value. Not together with `inputObject`. "
            f"{FROM_ROOT}"
        ),
    ] = None
    input_from: Annotated[
        list[TemplateSource] | None,
        Field(
            max_length=MAX_TASKS,
            description=(
                "Results, of tasks of the same root or of a group, that become parts of the input. "
                "The task waits for them as if `runAfter` named them."
            ),
            json_schema_extra=meta.ATOMIC_LIST,
        ),
    ] = None
    run_after: Annotated[
        list[_Label] | None,
        Field(
            max_length=MAX_TASKS,
            description="Names of tasks of the same root that must have finished before.",
            json_schema_extra=meta.SET_LIST,
        ),
    ] = None
    run_after_group: Annotated[
        GroupName | None,
        Field(
            description="Wait for all tasks of the tree whose `group` has this value, also those "
            "that tasks spawn."
        ),
    ] = None
    count: Annotated[
        int | None,
        Field(
            ge=0,
            le=INT32_MAX,
            description=(
                "Number of members of `runAfterGroup` that are expected; while fewer exist, the "
                "task waits. Default 1, or as many as `minSuccess` needs."
            ),
        ),
    ] = None
    subtree: Annotated[
        bool | None,
        Field(
            description="Wait for each task in `runAfter` and `runAfterGroup` with all its "
            "descendants."
        ),
    ] = None
    min_success: Annotated[
        int | None,
        Field(
            ge=0,
            le=INT32_MAX,
            description=(
                "Number of the tasks in `runAfter` and `runAfterGroup` that have to succeed. "
                "Default: all."
            ),
        ),
    ] = None
    when: Annotated[
        When | None,
        Field(
            description=(
                "Run this task if the tasks in `runAfter` ended like this: Success (the default), "
                "Failure or Always."
            )
        ),
    ] = None
    group: Annotated[
        GroupName | None,
        Field(
            description="Name of the task's group, chosen by you; a valid label value.",
        ),
    ] = None
    retry: Annotated[
        Retry | None, Field(description=f"What to do after a failed attempt. {FROM_ROOT}")
    ] = None
    timeout_seconds: rootfields.TimeoutSeconds = None
    start_deadline_seconds: rootfields.StartDeadlineSeconds = None
    ttl_seconds_after_finished: Annotated[
        TtlSecondsAfterFinished | None,
        Field(
            description=f"When to delete the task, once the tree is complete. {FROM_ROOT}",
            json_schema_extra={"nullable": True},
        ),
    ] = None
    priority: rootfields.Priority = None
    slots: rootfields.Slots = None
    resources: Annotated[
        TaskResources | None, Field(description=f"CPU and memory of the task. {FROM_ROOT}")
    ] = None
    read_only_workspace: rootfields.ReadOnlyWorkspace = None
