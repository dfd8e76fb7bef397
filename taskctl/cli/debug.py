"""``taskctl debug``: a shell where a task runs or ran."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from taskctl.cli import completing
from taskctl.cli.access import Access
from taskctl.cli.durations import parse_seconds
from taskctl.cli.exits import CliError, UsageError
from taskctl.cli.names import parse_name
from taskctl.cli.output import note
from taskctl.cli.verbs import verb

_LIMIT_S: Final = 12 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugOptions:
    """The options of ``debug``."""

    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="Whose worker and workspace.", autocompletion=completing.tasks
        ),
    ]
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND…", help="What to run. Default: a shell."),
    ] = None
    image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Of the container. Default: the task's."),
    ] = None
    timeout: Annotated[
        str,
        typer.Option(metavar="DURATION", help="For the container to start: seconds, or 5m."),
    ] = "2m"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "debug")(debug)


async def debug(access: Access, options: DebugOptions) -> int:
    """Open a shell beside a task: in a container of its own, on the same worker and workspace.

    taskctl debug task-0 --image busybox

    taskctl debug task-0 -- ls -l
    """
    from taskctl.api.resources import TASKS
    from taskctl.cli.shell import converse, has_terminal
    from taskctl.outside.debugging import DebugError, close_place, new_container_name, open_place
    from taskctl.policy.debugging import SHELL, DebugRequest

    name = parse_name(options.task)
    timeout_s = parse_seconds(options.timeout, "--timeout")
    if options.image is not None and not options.image.strip():
        raise UsageError("--image is empty; leave it out for the task's own image")
    is_terminal = has_terminal()
    wanted = DebugRequest(
        name=new_container_name(),
        image=options.image or "",
        limit_s=int(_LIMIT_S),
        term=os.environ.get("TERM", "xterm") if is_terminal else "",
    )
    async with access.connect() as session:
        task = await session.client.get(TASKS, name, session.namespace)
        try:
            place = await open_place(session, task, wanted, timeout_s=timeout_s)
        except DebugError as error:
            raise CliError(str(error)) from error
        try:
            if not place.same_worker and place.ran_in:
                note(
                    f"worker {place.ran_in}, where {name} ran, is gone; this is {place.pod}, with "
                    "the same workspace"
                )
            elif not place.same_worker:
                note(f"{name} has not begun; this is worker {place.pod} of its TaskCluster")
            if is_terminal:
                read_only = ", which is read-only here as for the task" if place.reads_only else ""
                note(
                    f"{place.image} in worker {place.pod}; the workspace is the current "
                    f"directory{read_only}. Leave with exit."
                )
            async with session.client.open_exec(
                place.pod,
                session.namespace,
                place.container,
                options.command or SHELL,
                stdin=True,
                tty=is_terminal,
            ) as running:
                return await converse(running, is_terminal=is_terminal)
        finally:
            await close_place(session, place)
