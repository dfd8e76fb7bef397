"""``taskctl cancel`` and ``taskctl retry``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from taskctl.api.states import TaskState
from taskctl.cli.access import Access, Session
from taskctl.cli.exits import CliError, ExitCode
from taskctl.cli.names import parse_names
from taskctl.cli.output import Output, echo, note, object_name
from taskctl.cli.tables import print_tasks, state_of
from taskctl.cli.verbs import verb
from taskctl.clock import SystemClock
from taskctl.constants import LABEL_ROOT_UID
from taskctl.errors import Conflict, NotFound

TREE_TIMEOUT_S = 60.0
TREE_PAUSE_S = 0.2
RETRY_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOptions:
    """The options of ``cancel``."""

    names: Annotated[list[str], typer.Argument(metavar="TASK…", help="Tasks to cancel.")]
    tree: Annotated[
        bool, typer.Option("--tree", help="Of roots: their descendants too, until all have ended.")
    ] = False
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="What to print of the tasks.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """The options of ``retry``."""

    names: Annotated[list[str], typer.Argument(metavar="TASK…", help="Failed tasks.")]
    output: Annotated[
        Output | None, typer.Option("--output", "-o", help="What to print of the tasks.")
    ] = None


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "cancel")(cancel)
    verb(app, "retry")(retry)


async def cancel(access: Access, options: CancelOptions) -> int:
    """Stop tasks. SIGTERM, a grace, SIGKILL; queued ones never start."""
    from taskctl.client.resources import TASKS

    results: list[dict[str, Any]] = []
    async with access.connect() as session:
        for name in parse_names(options.names):
            task = await session.client.get(TASKS, name, session.namespace)
            results.append(await _cancel(session, task, options.output))
            if options.tree:
                results += await _cancel_descendants(session, task, options.output)
    return _finish(results, options.output)


async def _cancel(session: Session, task: dict[str, Any], output: Output | None) -> dict[str, Any]:
    from taskctl.client.base import PatchOptions
    from taskctl.client.resources import TASKS

    state = TaskState(state_of(task))
    name = task["metadata"]["name"]
    if state.terminal:
        note(f"{name} has already ended ({state})")
        return task
    body = {"metadata": {"uid": task["metadata"]["uid"]}, "spec": {"cancel": True}}
    result = await session.client.patch(
        TASKS, name, session.namespace, body, options=PatchOptions(idempotent=True)
    )
    if output is None:
        echo(f"{object_name(result)} cancelled")
    return result


async def _cancel_descendants(
    session: Session, root: dict[str, Any], output: Output | None
) -> list[dict[str, Any]]:
    from taskctl.client.base import ListOptions
    from taskctl.client.resources import TASKS

    options = ListOptions(label_selector=f"{LABEL_ROOT_UID}={root['metadata']['uid']}")
    done: dict[str, dict[str, Any]] = {}
    try:
        async with asyncio.timeout(TREE_TIMEOUT_S):
            while True:
                page = await session.client.list_all(TASKS, session.namespace, options=options)
                live = [task for task in page.items if not TaskState(state_of(task)).terminal]
                for task in live:
                    if task["spec"].get("cancel"):
                        continue
                    with contextlib.suppress(NotFound):
                        done[task["metadata"]["uid"]] = await _cancel(session, task, output)
                # Until it has ended, a cancelled task may still be creating children.
                if not live:
                    return list(done.values())
                await asyncio.sleep(TREE_PAUSE_S)
    except TimeoutError:
        raise CliError(
            f"the tree of {root['metadata']['name']} has not ended after {TREE_TIMEOUT_S:.0f} s; "
            f"delete it whole: kubectl delete {object_name(root)}",
            ExitCode.TIMED_OUT,
        ) from None


async def retry(access: Access, options: RetryOptions) -> int:
    """Run failed tasks again. As a further attempt; their retry limit counts anew."""
    async with access.connect() as session:
        results = [
            await _retry(session, name, options.output) for name in parse_names(options.names)
        ]
    return _finish(results, options.output)


async def _retry(session: Session, name: str, output: Output | None) -> dict[str, Any]:
    from taskctl.cli.rerun import refusal, rerun_body
    from taskctl.client.resources import TASKS

    for _ in range(RETRY_TRIES):
        task = await session.client.get(TASKS, name, session.namespace)
        reason = refusal(task)
        if reason is not None:
            raise CliError(f"{name} cannot be retried: {reason}")
        body = rerun_body(task, SystemClock().now())
        try:
            result = await session.client.patch_status(TASKS, name, session.namespace, body)
        except Conflict:
            continue
        if output is None:
            echo(f"{object_name(result)} queued again")
        return result
    raise CliError(f"{name} is changed by somebody else all the time; try again")


def _finish(results: Sequence[dict[str, Any]], output: Output | None) -> int:
    if output is not None:
        print_tasks(results, output, single=len(results) == 1)
    return ExitCode.OK
