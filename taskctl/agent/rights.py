"""What a child may have: nothing that its tree was not given.

Task code has no token. It acts through the agent, which has one for the whole namespace, so the
agent has to say no where the API server would not:

- the input of a task is an object of its own tree, or the one that the root was given by name by
  the user who created the root, with rights of their own;
- a child of a task that may only read the workspace may only read it, too.

``childspec.py`` refuses the rest: another TaskCluster, other Secrets, wider limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from taskctl.agent.context import Context
from taskctl.agent.fields import bad
from taskctl.agent.objects import GIVE_UP_AFTER_S
from taskctl.agent.refusals import ErrorCode, Refusal, from_api
from taskctl.api.resources import TASKOBJECTS, TASKS
from taskctl.constants import LABEL_ROOT_UID
from taskctl.errors import ApiError, NotFound
from taskctl.kube.resources import Resource
from taskctl.policy.view import TaskView

CONCURRENT_READS: Final = 16


def check_workspace_access(parent: TaskView, given: Mapping[str, Any], where: str) -> None:
    """Make sure that a child does not write where its parent may only read.

    Args:
        parent: who spawns.
        given: the overrides of the child.
        where: their path in the request.

    Raises:
        Refusal: ``bad_request``.
    """
    if parent.spec.get("readOnlyWorkspace") and given.get("readOnlyWorkspace") is False:
        raise bad(
            f"{where}.readOnlyWorkspace",
            "this task may only read the workspace, so its children may only read it, too; "
            "leave it out",
        )


class InputRights:
    """Says which TaskObjects may be the input of a task.

    Args:
        context: of the agent.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reads = asyncio.Semaphore(CONCURRENT_READS)

    async def check_use(self, task: TaskView, found: Mapping[str, Any]) -> None:
        """Make sure that a task may read an object as its input.

        Args:
            task: whose input it is.
            found: the TaskObject.

        Raises:
            Refusal: ``rejected``: the object belongs to another tree.
            ApiError: the root had to be read, and could not be.
        """
        name = found["metadata"]["name"]
        if not await self._is_given(task, name, found):
            raise Refusal(ErrorCode.REJECTED, f"the input, {_not_given(name, task)}")

    async def check_spawn(self, parent: TaskView, names: Mapping[str, str]) -> None:
        """Make sure that children may name these objects; says so before they are created.

        What does not exist yet is checked when it is used.

        Args:
            parent: who spawns.
            names: of TaskObjects, each with its path in the request.

        Raises:
            Refusal: ``bad_request`` for the first that they may not; ``unavailable``.
        """
        own = parent.spec.get("inputObject")  # it was checked when it was read
        wanted = [(name, where) for name, where in names.items() if name != own]
        for check in await asyncio.gather(
            *(self._check_name(parent, name, where) for name, where in wanted),
            return_exceptions=True,
        ):
            if isinstance(check, ApiError):
                raise from_api(check) from check
            if isinstance(check, BaseException):
                raise check

    async def _check_name(self, parent: TaskView, name: str, where: str) -> None:
        async with self._reads:
            try:
                found = await self._read(TASKOBJECTS, name)
            except NotFound:
                return
            if not await self._is_given(parent, name, found):
                raise bad(where, _not_given(name, parent))

    async def _is_given(self, task: TaskView, name: str, found: Mapping[str, Any]) -> bool:
        if task.is_root:
            return task.spec.get("inputObject") == name or _is_of_tree(found, task)
        if _is_of_tree(found, task):
            return True
        try:
            root = await self._read(TASKS, task.root_name)
        except NotFound:
            return False
        same = root["metadata"]["uid"] == task.root_uid
        return bool(same and root["spec"].get("inputObject") == name)

    async def _read(self, resource: Resource, name: str) -> dict[str, Any]:
        context = self._context
        return await context.retrier.call(
            f"read {resource.kind} {name}",
            lambda: context.client.get(resource, name, context.namespace),
            give_up_after_s=GIVE_UP_AFTER_S,
        )


def _is_of_tree(found: Mapping[str, Any], task: TaskView) -> bool:
    """Whether an object belongs to a task's tree; only the agent and people set this label."""
    labels = found["metadata"].get("labels") or {}
    return bool(labels.get(LABEL_ROOT_UID) == task.root_uid)


def _not_given(name: str, task: TaskView) -> str:
    return (
        f"TaskObject {name} belongs to no task of the tree of {task.root_name}, and the root was "
        "not given it; name it in the inputObject of the root, or pass the value on"
    )
