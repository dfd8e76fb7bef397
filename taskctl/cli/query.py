"""``taskctl get`` and ``taskctl wait``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from taskctl.cli.access import Access, Session
from taskctl.cli.exits import CliError, ExitCode, UsageError
from taskctl.cli.output import Output, echo, note, print_objects, wants_colour
from taskctl.cli.verbs import verb
from taskctl.cli.waiting import Goal, verdict, wait_for
from taskctl.clock import SystemClock
from taskctl.constants import LABEL_ROOT_UID


@dataclass(frozen=True, slots=True, kw_only=True)
class GetOptions:
    """The options of ``get``."""

    names: Annotated[
        list[str] | None, typer.Argument(metavar="[TASK]…", help="Default: all of the namespace.")
    ] = None
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")
    ] = False
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="Only in that state, e.g. Failed.")
    ] = None
    cluster: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only of that TaskCluster.")
    ] = None
    root: Annotated[
        str | None, typer.Option(metavar="TASK", help="Only that Task and its descendants.")
    ] = None
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", metavar="LABELS", help="Label selector.")
    ] = None
    output: Annotated[Output, typer.Option("--output", "-o", help="Format.")] = Output.TABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOptions:
    """The options of ``wait``."""

    names: Annotated[list[str], typer.Argument(metavar="TASK…", help="Tasks to wait for.")]
    goal: Annotated[
        Goal,
        typer.Option(
            "--for",
            help="succeeded: exit code 1 as soon as one has not. complete: 0 however they end. "
            "A root is complete when its whole tree is.",
        ),
    ] = Goal.SUCCEEDED
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Then exit code 4. Default: no limit."),
    ] = None
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="Print the tasks instead of a line.")
    ] = None


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "get")(get)
    verb(app, "wait")(wait)


async def get(access: Access, options: GetOptions) -> int:
    """Show tasks: state, reason, exit code, worker."""
    from taskctl.cli.tables import TableOptions, by_creation, task_table

    async with access.connect() as session:
        if options.names:
            tasks = await _named(session, options)
        else:
            tasks = await _selected(session, options)
    ordered = by_creation(tasks)
    if options.output in (Output.TABLE, Output.WIDE):
        if not ordered:
            where = "" if options.all_namespaces else f" in namespace {session.namespace}"
            note(f"No tasks{where}.")
            return ExitCode.OK
        table_options = TableOptions(
            now=SystemClock().now(),
            wide=options.output is Output.WIDE,
            namespaces=options.all_namespaces,
            colour=wants_colour(),
        )
        echo(task_table(ordered, table_options))
    else:
        single = options.names is not None and len(options.names) == 1
        print_objects(ordered, options.output, single=single)
    return ExitCode.OK


async def _named(session: Session, options: GetOptions) -> list[dict[str, Any]]:
    from taskctl.client.resources import TASKS

    for name in ("all_namespaces", "state", "cluster", "root", "selector"):
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')} and task names exclude each other")
    names = options.names or ()
    return [await session.client.get(TASKS, name, session.namespace) for name in names]


async def _selected(session: Session, options: GetOptions) -> list[dict[str, Any]]:
    from taskctl.client.base import ListOptions
    from taskctl.client.resources import TASKS

    fields = {"status.state": options.state, "spec.clusterName": options.cluster}
    labels = [options.selector] if options.selector else []
    roots: Sequence[dict[str, Any]] = ()
    if options.root:
        if options.all_namespaces:
            raise UsageError("--root and --all-namespaces exclude each other")
        root = await session.client.get(TASKS, options.root, session.namespace)
        labels.append(f"{LABEL_ROOT_UID}={root['metadata']['uid']}")
        filtered = options.state or options.cluster or options.selector
        roots = () if filtered else (root,)
    list_options = ListOptions(
        label_selector=",".join(labels),
        field_selector=",".join(f"{key}={value}" for key, value in fields.items() if value),
    )
    namespace = None if options.all_namespaces else session.namespace
    page = await session.client.list_all(TASKS, namespace, options=list_options)
    return [*roots, *page.items]


async def wait(access: Access, options: WaitOptions) -> int:
    """Wait for tasks to finish. A root counts with its whole tree."""
    ended: list[dict[str, Any]] = []

    def report(task: dict[str, Any]) -> None:
        ended.append(task)
        if options.output is None:
            echo(verdict(task))

    async with access.connect() as session:
        try:
            async with asyncio.timeout(options.timeout):
                code = await wait_for(session, options.names, options.goal, report=report)
        except TimeoutError:
            raise CliError(
                f"not finished after {options.timeout:g} s: {', '.join(options.names)}",
                ExitCode.TIMED_OUT,
            ) from None
    if options.output is not None:
        chosen = options.output if options.output in (Output.JSON, Output.YAML) else Output.NAME
        print_objects(ended, chosen, single=len(options.names) == 1)
    return code
