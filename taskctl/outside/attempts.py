"""Which attempts of a Task have begun, and where they ran."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from taskctl.api.states import TaskState
from taskctl.errors import TaskctlError
from taskctl.outside.logcopy import Place
from taskctl.outside.session import Session


class TaskDeleted(TaskctlError):
    """A Task was deleted while something was still expected of it."""


def last_begun(task: Mapping[str, Any]) -> int:
    """Return the number of the latest attempt of a raw Task that has begun; 0: none has.

    Of a root with tasks none ever does: it runs no container.
    """
    from taskctl.policy.view import parse_task

    view = parse_task(task)
    if view.is_graph:
        return 0
    return view.attempt - 1 if view.state is TaskState.SCHEDULED else view.attempt


def no_log_of_graph(name: str) -> str:
    """Return why a root with tasks has no log, and who has."""
    return (
        f"{name} is a root with tasks and runs no container itself, so it has no log; "
        f"taskctl logs --tree {name} prints those of its tasks"
    )


def place_of(task: Mapping[str, Any], attempt: int) -> Place:
    """Return where an attempt of a raw Task ran."""
    from taskctl.policy.entry import container_name
    from taskctl.policy.view import parse_task

    view = parse_task(task)
    latest = attempt == view.attempt
    pod, container = (view.pod_name, view.parked_container) if latest else ("", "")
    for past in view.status.get("attempts") or ():
        if past.get("attempt") == attempt and not pod:
            pod, container = past.get("podName") or "", past.get("containerName") or ""
    # That of any other than a parked one follows from UID and attempt.
    container = container or container_name(view.uid, attempt)
    return Place(view.name, view.uid, attempt, pod, container)


async def wait_begun(session: Session, task: dict[str, Any], *, after: int) -> dict[str, Any]:
    """Wait for an attempt after number ``after`` to begin, or for the end of the Task.

    Returns:
        The Task as it was then, raw.

    Raises:
        TaskDeleted: it was deleted.
    """
    from taskctl.api.resources import TASKS
    from taskctl.kube.follow import Selection, follow
    from taskctl.outside.outcome import state_of

    def begun(found: Mapping[str, Any]) -> bool:
        return last_begun(found) > after or TaskState(state_of(found)).terminal

    if begun(task):
        return task
    name, uid = task["metadata"]["name"], task["metadata"]["uid"]
    selection = Selection(TASKS, session.namespace, field_selector=f"metadata.name={name}")
    async with aclosing(follow(session.client, selection)) as changes:
        async for change in changes:
            same = [found for found in change.objects if found["metadata"]["uid"] == uid]
            if change.deleted or not same:
                when = "before it started" if not after else "while its log was followed"
                raise TaskDeleted(f"{name} was deleted {when}")
            if begun(same[-1]):
                return same[-1]
    raise TaskctlError(f"the watch on {name} ended")
