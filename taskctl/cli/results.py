"""``taskctl output``: what tasks returned, large values in the workspace too."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from taskctl.api.states import TaskState
from taskctl.cli import completing
from taskctl.cli.access import Access, Session
from taskctl.cli.exits import CliError, ExitCode, UsageError
from taskctl.cli.names import kind_of_word, parse_name
from taskctl.cli.output import echo, note, to_json, to_yaml
from taskctl.cli.verbs import verb
from taskctl.constants import ENV_WORKSPACE, FIELD_ROOT_UID, LABEL_ROOT_UID
from taskctl.outside.outcome import cause_of, state_of
from taskctl.outside.values import CHUNK_BYTES, OBJECT_VERB
from taskctl.policy.runcluster import cluster_of_task

if TYPE_CHECKING:
    from taskctl.outside.values import Values

_AT_ONCE: Final = 8  # large values that are read at the same time
_SHA256_CHARS: Final = 64


class Form(StrEnum):
    """``-o``."""

    JSON = "json"
    YAML = "yaml"
    RAW = "raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """The options of ``output``."""

    name: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="Task, or TaskObject as taskobject/NAME.",
            autocompletion=completing.results,
        ),
    ]
    tree: Annotated[
        bool, typer.Option("--tree", help="Of the Task and all its descendants, as a list.")
    ] = False
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="TaskCluster whose workspace holds a TaskObject that no Task made.",
            autocompletion=completing.clusters,
        ),
    ] = None
    output: Annotated[
        Form,
        typer.Option(
            "--output", "-o", help="Format. raw: text without quotes, anything else as JSON."
        ),
    ] = Form.JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """The options of the verb that runs inside a worker."""

    sha256: Annotated[str, typer.Argument(metavar="SHA256", help="Of the value.")]
    size: Annotated[int, typer.Argument(metavar="BYTES", min=0, help="Its size.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "output")(output)
    verb(app, OBJECT_VERB, hidden=True)(workspace_object)


async def output(access: Access, options: OutputOptions) -> int:
    """Print what a task returned. Exit code 1, and the reason, unless it succeeded."""
    from taskctl.api.resources import TASKS
    from taskctl.outside.values import Values

    if options.tree and options.output is Form.RAW:
        raise UsageError("--tree and -o raw exclude each other: a list has no raw form")
    named = _object_name(options.name)
    if named is not None and options.tree:
        raise UsageError("--tree takes a Task: a TaskObject has no descendants")
    if named is None and options.cluster is not None:
        raise UsageError("--cluster is for a TaskObject; a Task says its TaskCluster itself")
    async with access.connect() as session:
        values = Values(session)
        if named is not None:
            print_value(await _object(session, values, named, options), options.output)
            return ExitCode.OK
        name = parse_name(options.name)
        task = await session.client.get(TASKS, name, session.namespace)
        if options.tree:
            return await _print_tree(session, values, task, options)
        return await _print_one(values, task, options)


async def _print_one(values: Values, task: dict[str, Any], options: OutputOptions) -> int:
    name, state = task["metadata"]["name"], TaskState(state_of(task))
    standing = f"{name} {_standing(task)}"
    if not state.terminal:
        raise CliError(f"{standing}; it has no result yet: taskctl wait {name}")
    found = await values.output_of(task)
    if found is not None:
        print_value(found.plain, options.output)
    if state is not TaskState.SUCCEEDED:
        rest = "; this is what it left" if found is not None else ", so it has no result"
        raise CliError(f"{standing}{rest}")
    if found is None:
        note(f"{name} succeeded without a result")
        print_value(None, options.output)
    return ExitCode.OK


async def _print_tree(
    session: Session, values: Values, root: dict[str, Any], options: OutputOptions
) -> int:
    tasks = await _members(session, root)
    known = await _outputs_of(session, tasks[0])
    gate = asyncio.Semaphore(_AT_ONCE)

    async def describe(task: dict[str, Any]) -> dict[str, Any]:
        async with gate:
            return await _described(values, task, known)

    described = await asyncio.gather(*(describe(task) for task in tasks))
    print_value(list(described), options.output)
    fine = (TaskState.SUCCEEDED, TaskState.SKIPPED)
    bad = [task for task in tasks if state_of(task) not in fine]
    for entry in described:
        if "error" in entry:
            note(f"taskctl: {entry['task']}: {entry['error']}")
    if bad:
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise CliError(f"{bad[0]['metadata']['name']} {_standing(bad[0])}{more}")
    return ExitCode.FAILED if any("error" in entry for entry in described) else ExitCode.OK


async def _members(session: Session, top: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a Task and all its descendants, parents before children."""
    from taskctl.api.resources import TASKS
    from taskctl.cli.forest import all_views, build_forest
    from taskctl.kube.interface import ListOptions
    from taskctl.policy.view import parse_task

    root_uid, uid = parse_task(top).root_uid, top["metadata"]["uid"]
    options = ListOptions(field_selector=f"{FIELD_ROOT_UID}={root_uid}")
    page = await session.client.list_all(TASKS, session.namespace, options=options)
    by_uid = {task["metadata"]["uid"]: task for task in page.items} | {uid: top}
    trees = build_forest(by_uid.values())
    waiting = list(trees)
    while waiting:
        node = waiting.pop()
        if node.view.uid == uid:
            views = all_views([node])
            return [by_uid[view.uid] for view in reversed(views)]
        waiting += node.children
    return [top]


async def _outputs_of(session: Session, task: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the TaskObjects of a Task's tree by name, in few requests."""
    from taskctl.api.resources import TASKOBJECTS
    from taskctl.kube.interface import ListOptions
    from taskctl.policy.view import parse_task

    options = ListOptions(label_selector=f"{LABEL_ROOT_UID}={parse_task(task).root_uid}")
    page = await session.client.list_all(TASKOBJECTS, session.namespace, options=options)
    return {found["metadata"]["name"]: found for found in page.items}


async def _described(
    values: Values, task: dict[str, Any], known: Mapping[str, Any]
) -> dict[str, Any]:
    from taskctl.outside.values import ValueUnreadable

    status = task.get("status") or {}
    entry: dict[str, Any] = {"task": task["metadata"]["name"], "state": state_of(task)}
    if status.get("reason"):
        entry["reason"] = status["reason"]
    try:
        found = await values.output_of(task, known)
    except ValueUnreadable as error:
        return entry | {"error": str(error)}
    return entry if found is None else entry | {"output": found.plain}


async def _object(session: Session, values: Values, name: str, options: OutputOptions) -> Any:
    from taskctl.api.resources import TASKOBJECTS

    found = await session.client.get(TASKOBJECTS, name, session.namespace)
    cluster = ""
    if options.cluster is not None:
        cluster = parse_name(options.cluster, "TaskCluster", "--cluster")
    elif found.get("ref") is not None:
        cluster = await _cluster_of(session, found)
    return await values.content_of(found, cluster)


async def _cluster_of(session: Session, found: Mapping[str, Any]) -> str:
    from taskctl.api.resources import TASKS
    from taskctl.errors import NotFound

    for owner in found["metadata"].get("ownerReferences") or ():
        if owner["kind"] != "Task":
            continue
        try:
            task = await session.client.get(TASKS, owner["name"], session.namespace)
        except NotFound:
            continue
        if task["metadata"]["uid"] == owner["uid"]:
            return cluster_of_task(task)
    raise UsageError(
        f"TaskObject {found['metadata']['name']} lies in a workspace and belongs to no Task; say "
        "which TaskCluster's workspace it is with --cluster"
    )


def _object_name(text: str) -> str | None:
    word, slash, _ = text.rpartition("/")
    kind = kind_of_word(word) if slash else "Task"
    if kind not in ("Task", "TaskObject"):
        raise UsageError(
            f"{text!r} names neither a Task nor a TaskObject; write NAME, task/NAME or "
            "taskobject/NAME"
        )
    return parse_name(text, kind) if kind == "TaskObject" else None


def _standing(task: Mapping[str, Any]) -> str:
    """Say in one line how a Task stands, and why."""
    status = task.get("status") or {}
    detail = ": ".join(part for part in (status.get("reason"), cause_of(status)) if part)
    state = TaskState(state_of(task))
    words = state.lower() if state.terminal else f"has not finished, it is {state}"
    return words + (f" ({detail})" if detail else "")


def print_value(value: Any, form: Form) -> None:
    """Print a JSON value in the format asked for."""
    if form is Form.YAML:
        echo(to_yaml(value))
    elif form is Form.RAW and isinstance(value, str):
        _print_raw(value)
    elif form is Form.RAW:
        import json

        echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    else:
        echo(to_json(value))


def _print_raw(text: str) -> None:
    """Print a text as it is, unless it goes to a terminal, which must not act on it."""
    if sys.stdout.isatty():
        echo(text)
        return
    sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass"))
    sys.stdout.flush()


def workspace_object(options: FileOptions) -> int:
    """Print a large value that lies in the workspace. Runs inside a worker."""
    from taskctl.outside.workspacefiles import open_object

    root = os.environ.get(ENV_WORKSPACE)
    if not root:
        raise UsageError(f"${ENV_WORKSPACE} is not set: this is not a worker with a workspace")
    digits = set(options.sha256) <= set("0123456789abcdef")
    if len(options.sha256) != _SHA256_CHARS or not digits:
        raise UsageError("SHA256 must be 64 lower-case hexadecimal digits")
    try:
        with open_object(Path(root), options.sha256, options.size) as fd:
            offset = 0
            while chunk := os.pread(fd, CHUNK_BYTES, offset):
                sys.stdout.buffer.write(chunk)
                offset += len(chunk)
            sys.stdout.flush()
    except OSError as error:
        raise CliError(f"it cannot be read: {error.strerror or error}") from error
    return ExitCode.OK
