"""Options and answers of the client."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypedDict

from taskctl.outside.info import TaskInfo


class Options(TypedDict, total=False):
    """Options of a submission: those of a child in the SDK, and some of its own.

    ``cluster`` and ``image`` default to the client's. ``code`` is a folder to upload;
    ``by_value`` sends the function itself. ``debug`` runs the function in this process, where a
    debugger stops at its breakpoints: no Task is created, and the other options mean nothing.
    """

    name: str
    cluster: str
    image: str
    code: str | os.PathLike[str]
    by_value: bool
    debug: bool
    input: Any
    input_object: str
    env: Mapping[str, str] | Sequence[Mapping[str, Any]]
    working_dir: str
    timeout_s: int
    start_deadline_s: int
    slots: int
    cpu: int | float | str
    memory: int | str
    resources: Mapping[str, Mapping[str, int | str]]
    priority: int
    group: str
    retry: int | Mapping[str, Any]
    ttl: Mapping[str, int]
    run_after: Sequence[Any]
    when: str
    suspend: bool
    read_only_workspace: bool


class Settings(TypedDict, total=False):
    """The arguments of :class:`Client`."""

    kubeconfig: str | os.PathLike[str] | None
    context: str | None
    namespace: str | None
    cluster: str | None
    image: str | None
    code: str | os.PathLike[str] | None
    timeout_s: float


class EventType(StrEnum):
    """What happened to a Task."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Event:
    """A change that :meth:`Client.watch` tells of.

    Attributes:
        type: what happened.
        task: the Task after it; before it, where it was deleted.
    """

    type: EventType
    task: TaskInfo


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list.

    Attributes:
        tasks: the Tasks.
        continue_token: for :meth:`Client.list`, to get the next part; empty on the last one.
    """

    tasks: list[TaskInfo]
    continue_token: str = ""
