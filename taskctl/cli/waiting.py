"""Waiting for tasks to finish."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from taskctl.api.states import TaskState
from taskctl.cli.access import REQUEST_TIMEOUT_S, Session
from taskctl.cli.exits import CliError, ExitCode
from taskctl.cli.terminal import one_line
from taskctl.kube.follow import Selection, follow
from taskctl.outside.outcome import cause_of, has_succeeded, is_complete, state_of

# The first look gets this long even if --timeout is shorter, unless the server is away.
FIRST_LOOK_S: Final = REQUEST_TIMEOUT_S


class Goal(StrEnum):
    """``--for``."""

    COMPLETE = "complete"
    SUCCEEDED = "succeeded"


def verdict(task: Mapping[str, Any]) -> str:
    """Say in one line how a Task ended; of a complete tree, how its descendants did."""
    status = task.get("status") or {}
    state, name = state_of(task), task["metadata"]["name"]
    if state == TaskState.SUCCEEDED:
        if has_succeeded(task) or not is_complete(task):  # of a growing tree: the task itself
            return f"{name} succeeded"
        counts = status.get("descendants") or {}
        lost = f"{counts.get('failed', 0)} failed, {counts.get('cancelled', 0)} cancelled"
        return f"{name} succeeded, but of its descendants {lost}"
    detail = ": ".join(part for part in (status.get("reason"), cause_of(status)) if part)
    return one_line(f"{name} {state.lower()}" + (f" ({detail})" if detail else ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitSettings:
    """What to wait for.

    Attributes:
        names: Tasks that exist.
        goal: SUCCEEDED: 1 as soon as one has failed. COMPLETE: 0 however they end.
        timeout_s: how long; 0 looks once, None waits as long as it takes.
    """

    names: Sequence[str]
    goal: Goal = Goal.SUCCEEDED
    timeout_s: float | None = None


async def wait_for(
    session: Session,
    wait: WaitSettings,
    *,
    report: Callable[[dict[str, Any]], Awaitable[None]],
    see: Callable[[dict[str, Any]], None] = lambda _: None,
) -> int:
    """Wait until all named Tasks are complete; returns the exit code.

    However short the time is, the Tasks are looked at once.

    Args:
        session: client and namespace.
        wait: for what, and how long.
        report: told of each Task that ends.
        see: told how a Task stands, as often as that changes.

    Raises:
        CliError: one does not exist, or was deleted meanwhile; or the time is over.
    """
    waiting: set[str] = set(wait.names)
    begin = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(None) as limit:
            if wait.timeout_s is not None:
                limit.reschedule(begin + max(wait.timeout_s, FIRST_LOOK_S))

            def looked() -> None:
                if wait.timeout_s is not None:
                    limit.reschedule(begin + wait.timeout_s)

            return await _watch(session, wait, waiting, (see, report, looked))
    except TimeoutError:
        raise CliError(
            f"not finished after {wait.timeout_s:g} s: {', '.join(sorted(waiting))}",
            ExitCode.TIMED_OUT,
        ) from None


async def _watch(
    session: Session,
    wait: WaitSettings,
    waiting: set[str],
    told: tuple[
        Callable[[dict[str, Any]], None],
        Callable[[dict[str, Any]], Awaitable[None]],
        Callable[[], None],
    ],
) -> int:
    """Take out of ``waiting`` what has ended; returns the exit code."""
    from taskctl.api.resources import TASKS

    see, report, looked = told
    goal, failed = wait.goal, False
    # One name: the server sends only that. Many: one watch instead of many.
    selector = f"metadata.name={wait.names[0]}" if len(waiting) == 1 else ""
    selection = Selection(TASKS, session.namespace, field_selector=selector)
    async with aclosing(follow(session.client, selection)) as changes:
        async for change in changes:
            found = {task["metadata"]["name"]: task for task in change.objects}
            gone = waiting & found.keys() if change.deleted else set()
            if change.complete:
                gone = waiting - found.keys()
            if gone:
                names_gone = ", ".join(sorted(gone))
                raise CliError(
                    f"task {names_gone} does not exist in namespace {session.namespace} "
                    "(never created, misspelt, or deleted)",
                    ExitCode.NOT_FOUND,
                )
            for name in sorted(waiting & found.keys()):
                see(found[name])
                if is_complete(found[name]):
                    waiting.discard(name)
                    failed = failed or not has_succeeded(found[name])
                    await report(found[name])
            if not waiting or (failed and goal is Goal.SUCCEEDED):
                break
            if wait.timeout_s == 0:
                raise TimeoutError
            looked()
    return ExitCode.FAILED if failed and goal is Goal.SUCCEEDED else ExitCode.OK
