"""``spawn``: creates child Tasks and their inputs, all of them or an error."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from taskctl.agent import fields
from taskctl.agent.budget import SpawnBudget
from taskctl.agent.childspec import MAX_SPAWN, Child, build_child
from taskctl.agent.context import Context
from taskctl.agent.fields import bad
from taskctl.agent.objects import ObjectStore
from taskctl.agent.peers import Peers, asks_for_another
from taskctl.agent.refusals import ErrorCode, Refusal, from_api
from taskctl.agent.rights import InputRights
from taskctl.agent.runs import Run
from taskctl.api.resources import TASKS
from taskctl.clock import format_micro
from taskctl.constants import ANNOTATION_CREATED
from taskctl.errors import ApiError, NotFound
from taskctl.policy.lineage import child_metadata, is_same_child, is_same_object
from taskctl.policy.view import TaskView, parse_task
from taskctl.wire import Message

logger = logging.getLogger(__name__)

CONCURRENT_WRITES: Final = 16
_CHECKED_AT_ONCE: Final = 20


class Children:
    """Answers ``spawn``.

    Args:
        context: of the agent.
        objects: writes objects.
    """

    def __init__(self, context: Context, objects: ObjectStore) -> None:
        self._context = context
        self._objects = objects
        self._rights = InputRights(context)
        self._peers = Peers(context)
        self._budget = SpawnBudget(context)
        self._writes = asyncio.Semaphore(CONCURRENT_WRITES)

    async def spawn(self, run: Run, message: Message) -> Message:
        """Create the children that a run asks for; those that exist already are found.

        Nothing is created while any spec is faulty. What an unreachable API server leaves
        half done is completed when the task, or the next attempt, asks again.

        Raises:
            Refusal: ``bad_request``, ``limit``, ``conflict``, ``superseded``,
                ``no_workspace``, ``rejected`` or ``unavailable``.
        """
        specs = fields.array(message, "tasks", max_items=MAX_SPAWN)
        run.check_running()
        try:
            parent = parse_task(await self._context.task_of(run))
        except NotFound as error:
            raise Refusal(ErrorCode.SUPERSEDED, f"task {run.told.task} is gone") from error
        except ApiError as error:
            raise from_api(error) from error
        if parent.cancels_tree:
            raise Refusal(
                ErrorCode.SUPERSEDED,
                f"task {parent.name} is cancelled and its descendants with it: it cannot have new "
                "children (spec.cancelScope: Task would cancel it alone)",
            )
        for index, spec in enumerate(specs):
            if isinstance(spec, dict):
                where = f"tasks[{index}]."
                specs[index] = await self._objects.large.checked(spec, where=where)
        children = await _build(parent, specs, await self._allowed(parent, specs))
        await self._check_files(children)
        await self._rights.check_spawn(parent, _named_inputs(children))
        run.check_running()
        run.spawned = True
        answers = await self._context.on_behalf(run, "spawn", self._grow(parent, children))
        run.children.update((answer["uid"], answer["name"]) for answer in answers)
        made = sum(answer["created"] for answer in answers)
        self._context.meters.children += made
        logger.info("children asked=%d created=%d %s", len(answers), made, run.label)
        return {"tasks": answers}

    async def _allowed(self, parent: TaskView, specs: list[Any]) -> frozenset[str]:
        """Return the other TaskClusters that children may name; it costs a read if one does."""
        if not asks_for_another(specs, parent.cluster):
            return frozenset()
        try:
            return await self._peers.listed()
        except ApiError as error:
            raise from_api(error) from error

    async def _check_files(self, children: list[Child]) -> None:
        """Make sure that large inputs lie where the children can read them."""
        sent: dict[str, tuple[int, str]] = {}
        for index, child in enumerate(children):
            if child.content is not None and child.content.stored_bytes:
                field = f"tasks[{index}].{child.content.field}"
                cluster = child.task["spec"]["clusterName"]
                sent.setdefault(cluster, (child.content.stored_bytes, field))
        try:
            for cluster, (size, field) in sent.items():
                await self._peers.check_sent(size, cluster, field)
        except ApiError as error:
            raise from_api(error) from error

    async def _grow(self, parent: TaskView, children: list[Child]) -> list[Message]:
        names = [child.name for child in children]
        try:
            await self._budget.pay(parent, names)
            async with self._budget.for_children(parent, names):
                return await self._create_all(parent, children)
        except ApiError as error:
            raise from_api(error) from error

    async def _create_all(self, parent: TaskView, children: list[Child]) -> list[Message]:
        results = await asyncio.gather(
            *(
                self._create(parent, child, f"tasks[{index}]")
                for index, child in enumerate(children)
            ),
            return_exceptions=True,
        )
        answers = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            answers.append(result)
        return answers

    async def _create(self, parent: TaskView, child: Child, where: str) -> Message:
        async with self._writes:
            try:
                if child.content is not None:
                    await self._create_input(parent, child, where)
                now = self._context.timing.clock.now()
                child.task["metadata"]["annotations"][ANNOTATION_CREATED] = format_micro(now)
                task, created = await self._objects.create(TASKS, child.task)
            except ApiError as error:
                refusal = from_api(error)
                raise Refusal(refusal.code, f"{where}: {refusal.message}") from error
            if not created and not is_same_child(task, parent, child.key):
                raise _taken(where, "Task", child.name)
            return {"name": child.name, "uid": task["metadata"]["uid"], "created": created}

    async def _create_input(self, parent: TaskView, child: Child, where: str) -> None:
        if child.content is None:
            return
        content = await self._objects.settle(child.content, f"{where}.{child.content.field}")
        metadata = child_metadata(parent, child.input_name, child.key)
        found, created = await self._objects.create_object(metadata, content)
        if not created and not is_same_object(found, parent, child.key):
            raise _taken(where, "TaskObject", child.input_name)


def _named_inputs(children: list[Child]) -> dict[str, str]:
    """Return the objects that are to be inputs and exist already, with where they are named."""
    named: dict[str, str] = {}
    for index, child in enumerate(children):
        name = child.task["spec"].get("inputObject")
        if name and not child.input_name:
            named.setdefault(name, f"tasks[{index}].input_object")
    return named


def _taken(where: str, kind: str, name: str) -> Refusal:
    return Refusal(
        ErrorCode.CONFLICT,
        f"{where}: {kind} {name} exists and is not this task's child of that key; choose "
        "another name, or leave the name out",
    )


async def _build(parent: TaskView, specs: list[Any], peers: frozenset[str]) -> list[Child]:
    """Check all specs; lets others work in between, as a thousand take a while."""
    children: list[Child] = []
    keys: dict[str, int] = {}
    names: dict[str, int] = {}
    for index, spec in enumerate(specs):
        child = build_child(parent, spec, f"tasks[{index}]", peers)
        for taken, word, seen in ((child.key, "key", keys), (child.name, "name", names)):
            if taken in seen:
                raise bad(
                    f"tasks[{index}].{word}", f"{taken!r} is that of tasks[{seen[taken]}] too"
                )
            seen[taken] = index
        children.append(child)
        if index % _CHECKED_AT_ONCE == _CHECKED_AT_ONCE - 1:
            await asyncio.sleep(0)
    return children
