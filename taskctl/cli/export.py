"""``taskctl export``: Tasks as a file that outlives them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from taskctl.cli import completing
from taskctl.cli.access import Access
from taskctl.cli.exits import ExitCode, UsageError
from taskctl.cli.filewrite import write_whole
from taskctl.cli.names import parse_name
from taskctl.cli.output import echo
from taskctl.cli.tables import by_creation
from taskctl.cli.verbs import verb
from taskctl.constants import FIELD_ROOT_UID


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
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write; - for stdout.")
    ] = "-"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "export")(export)


async def export(access: Access, options: ExportOptions) -> int:
    """Write Tasks with their statuses, one a line, for `get`, `tree` and `report --from`."""
    from taskctl.cli.taskfile import write_tasks
    from taskctl.client.base import ListOptions
    from taskctl.client.resources import TASKS

    if options.root is not None and options.all_namespaces:
        raise UsageError("ROOT and --all-namespaces exclude each other")
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
    many = "1 task" if len(tasks) == 1 else f"{len(tasks)} tasks"
    echo(f"{options.output}: {many}, {len(text) / 1e6:.1f} MB")
    return ExitCode.OK
