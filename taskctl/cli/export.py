"""``taskctl export``: Tasks as a file that outlives them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from taskctl.cli import completing
from taskctl.cli.access import Access
from taskctl.cli.exits import ExitCode, UsageError
from taskctl.cli.filewrite import write_whole
from taskctl.cli.names import parse_name
from taskctl.cli.output import counted, echo
from taskctl.cli.tables import by_creation
from taskctl.cli.verbs import verb
from taskctl.constants import FIELD_ROOT_UID

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskctl.cli.access import Session
    from taskctl.history.transitions import Transitions


DEFAULT_MAX_MB: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The options of ``export``."""

    root: Annotated[
        str | None,
        typer.Argument(
            metavar="[ROOT]",
            help="Task whose tree to export. Default: all Tasks.",
            autocompletion=completing.roots,
        ),
    ] = None
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")
    ] = False
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            help="Append a line for each transition: until the tree has ended, or without ROOT "
            "until it is interrupted.",
        ),
    ] = False
    max_size: Annotated[
        int | None,
        typer.Option(
            metavar="MB",
            min=1,
            max=1_000_000,
            help="With --follow: from there on the file becomes FILE.1, and another one is begun. "
            f"Default: {DEFAULT_MAX_MB}.",
        ),
    ] = None
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write; - for stdout.")
    ] = "-"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "export")(export)


async def export(access: Access, options: ExportOptions) -> int:
    """Write Tasks with their statuses, one a line, for `get`, `tree` and `report --from`."""
    from taskctl.api.resources import TASKS
    from taskctl.cli.taskfile import write_tasks
    from taskctl.kube.interface import ListOptions

    if options.root is not None and options.all_namespaces:
        raise UsageError("ROOT and --all-namespaces exclude each other")
    if options.max_size is not None and not (options.follow and options.output != "-"):
        raise UsageError("--max-size needs --follow and a file (-o)")
    if options.follow:
        async with access.connect() as session:
            return await _follow(session, options)
    async with access.connect() as session:
        namespace = None if options.all_namespaces else session.namespace
        tasks, selector = [], ""
        if options.root is not None:
            root = await session.client.get(TASKS, parse_name(options.root), session.namespace)
            tasks, selector = [root], f"{FIELD_ROOT_UID}={root['metadata']['uid']}"
        members = ListOptions(field_selector=selector)
        tasks += (await session.client.list_all(TASKS, namespace, options=members)).items
    text = write_tasks(by_creation(tasks))
    if options.output == "-":
        echo(text.removesuffix("\n"))
        return ExitCode.OK
    await asyncio.to_thread(write_whole, Path(options.output), text)
    echo(f"{options.output}: {counted(len(tasks), 'task')}, {len(text) / 1e6:.1f} MB")
    return ExitCode.OK


async def _follow(session: Session, options: ExportOptions) -> int:
    from taskctl.cli.tasklog import TaskLog
    from taskctl.history.transitions import Transitions

    if options.output == "-":
        async for changed in _transitions(session, options, Transitions()):
            _print(changed)
        return ExitCode.OK
    max_bytes = (options.max_size or DEFAULT_MAX_MB) * 1_000_000
    with await asyncio.to_thread(TaskLog, Path(options.output), max_bytes) as log:
        known = Transitions(await asyncio.to_thread(log.recorded))
        async for changed in _transitions(session, options, known):
            await asyncio.to_thread(log.append, changed, list(known.tasks.values()))
    return ExitCode.OK


def _print(tasks: list[Mapping[str, Any]]) -> None:
    from taskctl.cli.taskfile import write_tasks

    echo(write_tasks(tasks).removesuffix("\n"))
    sys.stdout.flush()


async def _transitions(
    session: Session, options: ExportOptions, known: Transitions
) -> AsyncGenerator[list[Mapping[str, Any]], None]:
    """Yield Tasks that get a line, and end when the tree of ROOT has ended or was deleted."""
    from taskctl.api.resources import TASKS
    from taskctl.kube.follow import Selection, follow
    from taskctl.policy.onexit import is_settled
    from taskctl.policy.view import parse_task

    root_uid = ""
    if options.root is not None:
        root = await session.client.get(TASKS, parse_name(options.root), session.namespace)
        root_uid = root["metadata"]["uid"]
    # One watch, as the root tells that its tree has ended and must not come before its members.
    selection = Selection(TASKS, None if options.all_namespaces else session.namespace)
    async with aclosing(follow(session.client, selection)) as changes:
        async for change in changes:
            tasks = [
                task
                for task in change.objects
                if not root_uid or parse_task(task).root_uid == root_uid
            ]
            changed = known.update(tasks, deleted=change.deleted, complete=change.complete)
            if changed:
                yield changed
            if root_uid and (
                root_uid not in known.tasks or is_settled(parse_task(known.tasks[root_uid]))
            ):
                return
