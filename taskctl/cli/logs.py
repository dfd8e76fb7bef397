"""``taskctl logs``: what a task wrote, from its container or from the workspace's copy."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from taskctl.cli import completing
from taskctl.cli.access import Access, Session
from taskctl.cli.exits import CliError, ExitCode, UsageError
from taskctl.cli.logprint import LogPrinter, LogRequest
from taskctl.cli.names import parse_name
from taskctl.cli.output import counted, echo, note
from taskctl.cli.taskfile import TaskFileOptions, open_source
from taskctl.cli.treelogs import print_tree_logs
from taskctl.cli.verbs import verb
from taskctl.constants import ENV_WORKSPACE
from taskctl.outside.attempts import (
    TaskDeleted,
    last_begun,
    no_log_of_graph,
    place_of,
    wait_begun,
)
from taskctl.outside.logcopy import (
    COPY_VERB,
    NO_COPY,
    CopyMissing,
    Place,
    copy_size,
    copy_tail_offset,
    find_copy,
    read_copy,
    to_frame,
)
from taskctl.policy.view import parse_task

_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """The options of the verb that runs inside a worker."""

    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of the Task.")]
    uid: Annotated[str, typer.Argument(metavar="UID", help="Of the Task.")]
    attempt: Annotated[int, typer.Argument(metavar="N", min=1, help="Number of the attempt.")]
    size: Annotated[bool, typer.Option("--size", help="Print only how many bytes it has.")] = False
    framed: Annotated[
        bool, typer.Option("--framed", help="Each part behind its size and position.")
    ] = False
    offset: Annotated[int, typer.Option(metavar="BYTES", min=0, help="Leave so many out.")] = 0
    tail: Annotated[
        int | None, typer.Option(metavar="LINES", min=0, max=_MAX, help="Only the last lines.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsOptions(TaskFileOptions):
    """The options of ``logs``."""

    task: Annotated[
        str, typer.Argument(metavar="TASK", help="Whose output.", autocompletion=completing.tasks)
    ]
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Until the task is over, its retries included."),
    ] = False
    tree: Annotated[
        bool,
        typer.Option(
            "--tree",
            help="Of its descendants, too: each line with the name of its task. With -f until all "
            "have ended.",
        ),
    ] = False
    attempt: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=_MAX, help="Only that one. Default: the latest."),
    ] = None
    tail: Annotated[
        int | None,
        typer.Option(
            metavar="LINES", min=0, max=_MAX, help="Only the last lines; with --tree of each task."
        ),
    ] = None
    timestamps: Annotated[
        bool, typer.Option("--timestamps", help="With the time of each line.")
    ] = False
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="All control sequences reach the terminal; otherwise only colours do. What goes "
            "to a file or a pipe is never changed.",
        ),
    ] = False


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "logs")(logs)
    verb(app, COPY_VERB, hidden=True)(workspace_log)


async def logs(access: Access, options: LogsOptions) -> int:
    """Print what a task wrote to stdout and stderr."""
    from taskctl.api.resources import TASKS

    name = parse_name(options.task)
    wanted = LogRequest(
        follow=options.follow,
        tail=options.tail,
        timestamps=options.timestamps,
        filtered=sys.stdout.isatty() and not options.raw,
    )
    if options.tree and options.attempt is not None:
        raise UsageError("--tree and --attempt exclude each other")
    recorded = options.file is not None or options.history
    if recorded and options.follow:
        raise UsageError(
            f"-f and {'--history' if options.history else '--from'} exclude each other"
        )
    if options.file is not None:
        if options.tree:
            raise UsageError("--from and --tree exclude each other")
        return await _print_recorded(access, options, name, wanted)
    async with open_source(access, options) as source:
        session = source.session
        assert session is not None  # only a file has none
        if options.tree:
            return await print_tree_logs(session, name, wanted, source.client)
        task = await source.client.get(TASKS, name, source.namespace)
        gone = task["metadata"]["uid"] in source.gone
        follows = options.follow and options.attempt is None and not gone
        if follows and not parse_task(task).is_graph:
            task = await _wait_begun(session, task, after=0)
        place = find_place(task, options.attempt)
        printer = LogPrinter(session, await find_copy(session, task), wanted)
        with _explained(gone=gone):
            await printer.print_attempt(place)
        if follows:
            await _follow_retries(session, printer, task, place.attempt)
    return ExitCode.OK


@contextmanager
def _explained(*, gone: bool) -> Iterator[None]:
    """Say what becomes of logs of Tasks that are gone."""
    try:
        yield
    except CliError as error:
        if gone and error.code is ExitCode.NOT_FOUND:
            raise CliError(
                f"{error}. How long a log outlives its Task: "
                "spec.workspace.cleanup.afterDeletionSeconds of the TaskCluster",
                error.code,
            ) from error
        raise


async def _print_recorded(
    access: Access, options: LogsOptions, name: str, wanted: LogRequest
) -> int:
    """Print the log of a Task that only a file knows any more: the copy in the workspace."""
    from taskctl.api.resources import TASKS

    async with open_source(access, options) as source:
        task = await source.client.get(TASKS, name, source.namespace)
    async with access.connect() as session:
        session = replace(session, namespace=source.namespace)
        printer = LogPrinter(session, await find_copy(session, task), wanted)
        await printer.print_attempt(find_place(task, options.attempt))
    return ExitCode.OK


async def _follow_retries(
    session: Session, printer: LogPrinter, task: dict[str, Any], printed: int
) -> None:
    """Print each attempt that begins, until the Task is over."""
    while True:
        task = await _wait_begun(session, task, after=printed)
        if last_begun(task) <= printed:
            return
        printed += 1
        note(f"--- attempt {printed} ---")
        await printer.print_attempt(find_place(task, printed), again=True)


def find_place(task: Mapping[str, Any], attempt: int | None) -> Place:
    """Return where an attempt of a raw Task ran.

    Raises:
        CliError: it has not started, or there was no such attempt.
    """
    view = parse_task(task)
    latest = last_begun(task)
    number = attempt or latest
    if view.is_graph:
        raise CliError(no_log_of_graph(view.name))
    if not latest:
        reason = view.status.get("reason") or "not placed yet"
        if view.state.terminal:
            raise CliError(f"{view.name} never ran ({view.state}: {reason}), so it has no log")
        raise CliError(
            f"{view.name} has not started ({view.state}: {reason}); wait for it with "
            f"taskctl logs -f {view.name}"
        )
    if number > latest:
        had = counted(latest, "attempt")
        raise CliError(f"{view.name} has had {had}; there is no attempt {number}")
    return place_of(task, number)


async def _wait_begun(session: Session, task: dict[str, Any], *, after: int) -> dict[str, Any]:
    try:
        return await wait_begun(session, task, after=after)
    except TaskDeleted as error:
        raise CliError(str(error), ExitCode.NOT_FOUND) from error


def workspace_log(options: CopyOptions) -> int:
    """Print the copy of a task's log that lies in the workspace. Runs inside a worker."""
    root = os.environ.get(ENV_WORKSPACE)
    if not root:
        raise UsageError(f"${ENV_WORKSPACE} is not set: this is not a worker with a workspace")
    directory = Path(root)
    place = Place(options.task, options.uid, options.attempt)
    if options.size:
        try:
            echo(str(copy_size(directory, place)))
        except CopyMissing:
            echo(NO_COPY)
        return ExitCode.OK
    offset = options.offset
    if options.tail is not None:
        offset = copy_tail_offset(directory, place, options.tail)
    while part := read_copy(directory, place, offset):
        sys.stdout.buffer.write(to_frame(part) if options.framed else part.data)
        offset = part.end
    sys.stdout.flush()
    return ExitCode.OK
