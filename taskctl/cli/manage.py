"""``taskctl cancel`` and ``taskctl retry``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from taskctl.api.states import CancelScope, TaskState
from taskctl.cli import completing
from taskctl.cli.access import Access, Session
from taskctl.cli.exits import ExitCode, UsageError
from taskctl.cli.names import parse_names
from taskctl.cli.output import Output, echo, note, object_name
from taskctl.cli.tables import print_tasks
from taskctl.cli.verbs import verb
from taskctl.clock import SystemClock
from taskctl.outside.outcome import is_complete, state_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOptions:
    """The options of ``cancel``."""

    names: Annotated[
        list[str],
        typer.Argument(metavar="TASK…", help="Tasks to cancel.", autocompletion=completing.tasks),
    ]
    only: Annotated[
        bool, typer.Option("--only", help="Those tasks alone: their descendants run on.")
    ] = False
    tree: Annotated[
        bool, typer.Option("--tree", hidden=True, help="Their descendants too: the default.")
    ] = False
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="What to print of the tasks.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """The options of ``retry``."""

    names: Annotated[
        list[str],
        typer.Argument(
            metavar="TASK…", help="Failed tasks.", autocompletion=completing.failed_tasks
        ),
    ]
    failed: Annotated[
        bool,
        typer.Option(
            "--failed",
            help="All that did not succeed of those tasks' trees: failed, cancelled, skipped. "
            "What has succeeded keeps its results.",
        ),
    ] = False
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="What to print of the tasks.")
    ] = None


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "cancel")(cancel)
    verb(app, "retry")(retry)


async def cancel(access: Access, options: CancelOptions) -> int:
    """Stop tasks and their descendants. SIGTERM, a grace, SIGKILL; queued ones never start."""
    from taskctl.api.resources import TASKS

    if options.only and options.tree:
        raise UsageError("--only and --tree exclude each other")
    results: list[dict[str, Any]] = []
    async with access.connect() as session:
        for name in parse_names(options.names):
            task = await session.client.get(TASKS, name, session.namespace)
            results.append(await _cancel(session, task, options))
    return _finish(results, options.output)


async def _cancel(session: Session, task: dict[str, Any], options: CancelOptions) -> dict[str, Any]:
    from taskctl.api.resources import TASKS
    from taskctl.kube.interface import PatchOptions

    state = TaskState(state_of(task))
    name = task["metadata"]["name"]
    if state.terminal and (options.only or is_complete(task)):
        note(f"{name} has already ended ({state})")
        return task
    scope = CancelScope.TASK.value if options.only else None  # Tree, where it is absent
    body = {
        "metadata": {"uid": task["metadata"]["uid"]},
        "spec": {"cancel": True, "cancelScope": scope},
    }
    result = await session.client.patch(
        TASKS, name, session.namespace, body, options=PatchOptions(idempotent=True)
    )
    if options.output is None:
        echo(f"{object_name(result)} cancelled")
    return result


async def retry(access: Access, options: RetryOptions) -> int:
    """Run failed tasks again. As a further attempt; their retry limit counts from zero.

    Of a root with tasks (spec.tasks) those run again that did not succeed.
    """
    from taskctl.outside.rerunning import Rerunner

    results: list[dict[str, Any]] = []
    async with access.connect() as session:
        rerunner = Rerunner(session, SystemClock())
        for name in parse_names(options.names):
            queued = await rerunner.retry(name, failed=options.failed)
            results += queued
            if not queued:
                note(f"nothing to retry: no task of {name} has failed or was cancelled")
            if options.output is None:
                for task in queued:
                    echo(f"{object_name(task)} queued again")
    return _finish(results, options.output)


def _finish(results: Sequence[dict[str, Any]], output: Output | None) -> int:
    if output is not None:
        print_tasks(results, output, single=len(results) == 1)
    return ExitCode.OK
