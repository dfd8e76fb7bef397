"""``taskctl delete`` and ``taskctl prune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskctl.cli import completing
from taskctl.cli.access import Access, Session
from taskctl.cli.durations import moment, parse_seconds
from taskctl.cli.exits import ExitCode
from taskctl.cli.names import parse_any
from taskctl.cli.output import echo, note, object_name
from taskctl.cli.verbs import verb
from taskctl.clock import SystemClock
from taskctl.outside.outcome import has_succeeded, is_complete

if TYPE_CHECKING:
    from taskctl.kube.resources import Resource


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteArguments:
    """The options of ``delete``."""

    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME…",
            help="Tasks, or KIND/NAME: task/a, taskcluster/b, taskobject/c.",
            autocompletion=completing.objects,
        ),
    ]
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-not-found", help="Do not fail if an object does not exist.")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOptions:
    """The options of ``prune``."""

    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="Only what ended that long ago: seconds, or 5m, 24h."
        ),
    ] = None
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Only trees that have succeeded.")
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be deleted; delete nothing.")
    ] = False


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verb(app, "delete")(delete)
    verb(app, "prune")(prune)


async def delete(access: Access, options: DeleteArguments) -> int:
    """Delete tasks and other objects. A root goes with its tree; what runs is stopped."""
    from taskctl.api import resources
    from taskctl.errors import NotFound

    kinds = {
        known.kind: known
        for known in (resources.TASKS, resources.TASKCLUSTERS, resources.TASKOBJECTS)
    }
    wanted = list(dict.fromkeys(parse_any(text) for text in options.names))
    async with access.connect() as session:
        for kind, name in wanted:
            try:
                found = await session.client.get(kinds[kind], name, session.namespace)
                await _delete(session, kinds[kind], found)
            except NotFound:
                if not options.ignore_missing:
                    raise
    return ExitCode.OK


async def _delete(session: Session, resource: Resource, obj: Mapping[str, Any]) -> None:
    from taskctl.kube.interface import DeleteOptions as Options

    metadata = obj["metadata"]
    # By its UID: what was made since under the same name is left alone.
    options = Options(uid=metadata["uid"])
    await session.client.delete(resource, metadata["name"], session.namespace, options=options)
    echo(f"{object_name(obj)} deleted")


async def prune(access: Access, options: PruneOptions) -> int:
    """Delete trees that have ended. Each root whose whole tree is complete, with its tree."""
    from taskctl.api.resources import TASKS
    from taskctl.errors import Conflict, NotFound

    age_s = 0.0
    if options.older_than is not None:
        age_s = parse_seconds(options.older_than, "--older-than")
    async with access.connect() as session:
        page = await session.client.list_all(TASKS, session.namespace)
        now = SystemClock().now()
        old = prunable(page.items, now, age_s=age_s, keep_failed=options.keep_failed)
        for task in old:
            if options.dry_run:
                echo(f"{object_name(task)} would be deleted")
                continue
            try:
                await _delete(session, TASKS, task)
            except (NotFound, Conflict):
                continue  # another client removed it, or made another one of that name
    if not old:
        note(f"nothing to prune in namespace {session.namespace}")
    return ExitCode.OK


def prunable(
    tasks: Sequence[dict[str, Any]], now: datetime, *, age_s: float, keep_failed: bool
) -> list[dict[str, Any]]:
    """Return the roots whose whole tree ended at least ``age_s`` ago.

    Args:
        tasks: raw Tasks.
        now: the time.
        age_s: seconds since the last of the tree ended.
        keep_failed: leave out trees that have failed.
    """
    from taskctl.cli.forest import all_views, build_forest

    by_uid = {task["metadata"]["uid"]: task for task in tasks}
    found = []
    for root in build_forest(tasks):
        task = by_uid[root.view.uid]
        if not root.view.is_root or root.view.deleting or not is_complete(task):
            continue
        if any(not state.terminal for state, count in root.whole.items() if count):
            continue  # the root's status is behind
        if keep_failed and not has_succeeded(task):
            continue
        ends = [
            end
            for view in all_views([root])
            if (end := moment(view, "observed") or moment(view, "exited")) is not None
        ]
        if age_s and (not ends or (now - max(ends)).total_seconds() < age_s):
            continue
        found.append(task)
    return found
