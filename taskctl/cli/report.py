"""``taskctl report``: a tree as one HTML file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from taskctl.api.states import TaskState
from taskctl.cli import completing
from taskctl.cli.access import Access
from taskctl.cli.filewrite import write_whole
from taskctl.cli.names import parse_name
from taskctl.cli.output import counted, echo, note
from taskctl.cli.taskfile import TaskFileOptions, open_source
from taskctl.cli.verbs import verb
from taskctl.clock import SystemClock
from taskctl.constants import FIELD_ROOT_UID
from taskctl.errors import ApiError, Forbidden, TaskctlError

if TYPE_CHECKING:
    from taskctl.cli.pageops import PageOps
    from taskctl.ui.model import Row

_LOGS_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions(TaskFileOptions):
    """The options of ``report``."""

    root: Annotated[
        str,
        typer.Argument(
            metavar="ROOT", help="Task whose tree it shows.", autocompletion=completing.roots
        ),
    ]
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write; - for stdout.")
    ] = "report.html"
    logs: Annotated[
        int,
        typer.Option(
            metavar="NUMBER", min=0, max=1000, help="Hold the logs of so many tasks, failed first."
        ),
    ] = 50


def register(app: typer.Typer) -> None:
    """Add the verb."""
    verb(app, "report")(report)


async def report(access: Access, options: ReportOptions) -> int:
    """Write a tree of tasks as one HTML file: the page of `taskctl ui`, without a server."""
    from taskctl.api.resources import TASKCLUSTERS, TASKS
    from taskctl.cli.pageops import PageOps
    from taskctl.kube.interface import ListOptions
    from taskctl.ui.model import cluster_row_of, detail_of, row_of
    from taskctl.ui.report import Report, render_report

    name = parse_name(options.root)
    now = SystemClock().now()
    async with open_source(access, options) as source:
        root = await source.client.get(TASKS, name, source.namespace)
        members = ListOptions(field_selector=f"{FIELD_ROOT_UID}={root['metadata']['uid']}")
        page = await source.client.list_all(TASKS, source.namespace, options=members)
        tasks = [root, *page.items]
        rows = [row_of(task) for task in tasks]
        clusters: Sequence[Any] = ()
        try:
            clusters = (await source.client.list_all(TASKCLUSTERS, source.namespace)).items
        except Forbidden:
            note("(TaskClusters may not be read, so the report leaves them out)")
        logs: dict[str, Any] = {}
        if source.session is not None:  # a file of Tasks has no logs
            chosen = _most_wanted(rows)[: options.logs]
            ops = PageOps(access, source.session.client, gone=source.gone)
            logs = await _read_logs(ops, chosen)
    used = {row.cluster for row in rows}
    html = render_report(
        Report(
            title=name,
            taken=now.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            now_ms=now.timestamp() * 1000,
            tasks=rows,
            clusters=[cluster_row_of(c) for c in clusters if c["metadata"]["name"] in used],
            details={task["metadata"]["uid"]: detail_of(task) for task in tasks},
            logs=logs,
        )
    )
    if options.output == "-":
        echo(html)
        return 0
    await asyncio.to_thread(write_whole, Path(options.output), html)
    what = f"{counted(len(rows), 'task')}, {counted(len(logs), 'log')}"
    echo(f"{options.output}: {what}, {len(html.encode()) / 1e6:.1f} MB")
    return 0


def _most_wanted(rows: Sequence[Row]) -> list[Row]:
    """Return the tasks that may have a log, those first that people look for."""
    rank = {TaskState.FAILED: 0, TaskState.CANCELLED: 1, TaskState.RUNNING: 2}
    begun = [row for row in rows if row.attempt]
    return sorted(begun, key=lambda row: (rank.get(TaskState(row.state), 3), row.depth))


async def _read_logs(ops: PageOps, rows: Sequence[Row]) -> dict[str, Any]:
    from taskctl.ui.logtext import shown_log
    from taskctl.ui.ops import TaskRef

    at_once = asyncio.Semaphore(_LOGS_AT_ONCE)

    async def read(row: Row) -> tuple[str, Any]:
        async with at_once:
            try:
                found = await ops.log(TaskRef(row.namespace, row.name, row.uid), None)
            except (ApiError, TaskctlError) as error:
                return row.uid, {"text": "", "note": str(error), "cut": False}
        return row.uid, shown_log(found)

    return dict(await asyncio.gather(*(read(row) for row in rows)))
