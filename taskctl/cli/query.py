"""``taskctl get`` and ``taskctl wait``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from taskctl.cli import completing
from taskctl.cli.access import Access
from taskctl.cli.durations import parse_seconds
from taskctl.cli.exits import ExitCode, UsageError
from taskctl.cli.hints import hint_for
from taskctl.cli.names import parse_name, parse_names, parse_state
from taskctl.cli.output import Output, echo, note
from taskctl.cli.tables import by_creation, print_tasks
from taskctl.cli.taskfile import TaskFileOptions, TaskSource, open_source
from taskctl.cli.verbs import verb
from taskctl.cli.waiting import Goal, WaitSettings, verdict, wait_for
from taskctl.constants import FIELD_ROOT_UID


@dataclass(frozen=True, slots=True, kw_only=True)
class GetOptions(TaskFileOptions):
    """The options of ``get``."""

    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TASK]…",
            help="Default: all of the namespace.",
            autocompletion=completing.tasks,
        ),
    ] = None
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")
    ] = False
    state: Annotated[
        str | None,
        typer.Option(
            metavar="STATE",
            help="Only in that state, e.g. failed.",
            autocompletion=completing.states,
        ),
    ] = None
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Only of that TaskCluster.", autocompletion=completing.clusters
        ),
    ] = None
    root: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="Only that Task and its descendants.",
            autocompletion=completing.roots,
        ),
    ] = None
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", metavar="LABELS", help="Label selector.")
    ] = None
    output: Annotated[Output, typer.Option("--output", "-o", help="Format.")] = Output.TABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOptions:
    """The options of ``wait``."""

    names: Annotated[
        list[str],
        typer.Argument(metavar="TASK…", help="Tasks to wait for.", autocompletion=completing.tasks),
    ]
    goal: Annotated[
        Goal,
        typer.Option(
            "--for",
            help="succeeded: exit code 1 as soon as one has not. complete: 0 however they end. "
            "A root is complete when its whole tree is.",
        ),
    ] = Goal.SUCCEEDED
    timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Seconds, or 5m, 1h30m: then exit code 4. 0 looks once. Default: no limit.",
        ),
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
    everywhere = options.all_namespaces
    async with open_source(access, options, all_namespaces=everywhere) as source:
        if options.names:
            tasks = await _named(source, options)
        else:
            tasks = await _selected(source, options)
    ordered = by_creation(tasks)
    if not ordered and options.output in (Output.TABLE, Output.WIDE):
        where = "" if options.all_namespaces else f" in namespace {source.namespace}"
        note(f"No tasks{where}.")
        return ExitCode.OK
    single = options.names is not None and len(parse_names(options.names)) == 1
    print_tasks(ordered, options.output, single=single, namespaces=options.all_namespaces)
    return ExitCode.OK


async def _named(source: TaskSource, options: GetOptions) -> list[dict[str, Any]]:
    from taskctl.api.resources import TASKS

    for name in ("all_namespaces", "state", "cluster", "root", "selector"):
        if getattr(options, name) not in (None, False):
            raise UsageError(f"--{name.replace('_', '-')} and task names exclude each other")
    names = parse_names(options.names or ())
    return [await source.client.get(TASKS, name, source.namespace) for name in names]


async def _selected(source: TaskSource, options: GetOptions) -> list[dict[str, Any]]:
    from taskctl.api.resources import TASKS
    from taskctl.kube.interface import ListOptions

    fields = {
        "status.state": parse_state(options.state) if options.state is not None else None,
        "spec.clusterName": parse_name(options.cluster, "TaskCluster", "--cluster")
        if options.cluster is not None
        else None,
    }
    labels = [options.selector] if options.selector else []
    roots: Sequence[dict[str, Any]] = ()
    if options.root is not None:
        if options.all_namespaces:
            raise UsageError("--root and --all-namespaces exclude each other")
        root = await source.client.get(
            TASKS, parse_name(options.root, option="--root"), source.namespace
        )
        fields[FIELD_ROOT_UID] = root["metadata"]["uid"]
        filtered = options.state or options.cluster or options.selector
        roots = () if filtered else (root,)
    list_options = ListOptions(
        label_selector=",".join(labels),
        field_selector=",".join(f"{key}={value}" for key, value in fields.items() if value),
    )
    namespace = None if options.all_namespaces else source.namespace
    page = await source.client.list_all(TASKS, namespace, options=list_options)
    return [*roots, *page.items]


async def wait(access: Access, options: WaitOptions) -> int:
    """Wait for tasks to finish. A root counts with its whole tree.

    What they print is shown by `taskctl logs -f`.
    """
    ended: list[dict[str, Any]] = []

    async def report(task: dict[str, Any]) -> None:
        ended.append(task)
        if options.output is None:
            echo(verdict(task))
            if hint := hint_for(task):
                note(hint)

    names = parse_names(options.names)
    timeout_s = None if options.timeout is None else parse_seconds(options.timeout, "--timeout")
    async with access.connect() as session:
        wanted = WaitSettings(names=names, goal=options.goal, timeout_s=timeout_s)
        code = await wait_for(session, wanted, report=report)
    if options.output is not None:
        print_tasks(ended, options.output, single=len(names) == 1)
    return code
