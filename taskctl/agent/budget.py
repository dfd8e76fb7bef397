"""Budgets on the root that a spawn draws on before it creates anything.

``limits.descendants``: what a parent is about to create is set aside. ``limits.spawnRate``: it is
paid for with time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from taskctl.agent.context import Context
from taskctl.agent.objects import GIVE_UP_AFTER_S, read_object
from taskctl.agent.refusals import ErrorCode, Refusal
from taskctl.api.resources import TASKS
from taskctl.errors import ApiError, Conflict
from taskctl.kube.interface import ListOptions
from taskctl.policy.limits import (
    OverBudget,
    Reserved,
    decide_reservation,
    is_settled,
    settled_patch,
)
from taskctl.policy.spawnrate import TooFast, decide_pace, spawn_rate
from taskctl.policy.view import TaskView, parse_task

logger = logging.getLogger(__name__)

# Other agents and the controller write the root, too.
_TRIES: Final = 30


class SpawnBudget:
    """Keeps trees within ``limits.descendants`` and ``limits.spawnRate`` of their roots.

    Args:
        context: of the agent.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        # Two spawns of one parent would take what is set aside for the other for their own.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def for_children(self, parent: TaskView, names: Collection[str]) -> AsyncIterator[None]:
        """Have the children of those names counted; create them in the block.

        Where the block fails, what was set aside stays so for the parent.

        Raises:
            Refusal: ``limit``; ``superseded``: the root is gone; ``unavailable``.
            ApiError: the API server refused, or did not answer in time.
        """
        if parent.limit("descendants") is None:
            yield
            return
        lock = self._locks.setdefault(parent.uid, asyncio.Lock())
        async with lock:
            children = await self._reserve(parent, names)
            yield
            await self._settle(parent, children)

    async def _reserve(self, parent: TaskView, names: Collection[str]) -> int:
        """Set aside what is missing of those names; return how many children that makes."""
        for failures in range(1, _TRIES + 1):
            # The root before the children: whatever is counted meanwhile changes its version.
            root = await self._root(parent)
            existing = await self._children(parent)
            missing = len(set(names) - existing)
            decision = decide_reservation(parse_task(root), parent, len(existing), missing)
            if isinstance(decision, OverBudget):
                raise Refusal(ErrorCode.LIMIT, f"tasks: {decision.message}")
            if isinstance(decision, Reserved):
                if decision.patch is None:
                    return len(existing) + missing
                try:
                    await self._context.swap_status(root, decision.patch)
                except Conflict:
                    pass
                else:
                    return len(existing) + missing
            await self._context.retrier.pause(failures)
        raise _contended(parent)

    async def pay(self, parent: TaskView, names: Collection[str]) -> None:
        """Take what is missing of the children of those names off ``limits.spawnRate``.

        What fails afterwards is paid for all the same; children that exist cost nothing.

        Raises:
            Refusal: ``limit``, with the time to wait; ``superseded``; ``unavailable``.
            ApiError: the API server refused, or did not answer in time.
        """
        if spawn_rate(parent) is None:
            return
        async with self._locks.setdefault(parent.uid, asyncio.Lock()):
            await self._pay(parent, names)

    async def _pay(self, parent: TaskView, names: Collection[str]) -> None:
        missing = len(set(names) - await self._children(parent))
        for failures in range(1, _TRIES + 1):
            root = await self._root(parent)
            now = self._context.timing.clock.now()
            decision = decide_pace(parse_task(root), parent, missing, now)
            if isinstance(decision, TooFast):
                raise Refusal(
                    ErrorCode.LIMIT, f"tasks: {decision.message}", retry_after_s=decision.after_s
                )
            if decision.patch is None:
                return
            try:
                await self._context.swap_status(root, decision.patch)
            except Conflict:
                await self._context.retrier.pause(failures)
            else:
                return
        raise _contended(parent)

    async def _settle(self, parent: TaskView, children: int) -> None:
        """Take note that the children exist; if that fails, the controller does so later."""
        try:
            for failures in range(1, _TRIES + 1):
                root = await self._root(parent)
                view = parse_task(root)
                patch = settled_patch(view, {parent.uid: children})
                if patch is None or not is_settled(view, parent.uid, children):
                    return
                try:
                    await self._context.swap_status(root, patch)
                except Conflict:
                    await self._context.retrier.pause(failures)
                else:
                    return
        except (ApiError, Refusal) as error:
            logger.warning("what is set aside for %s stays so: %s", parent.name, error)

    async def _root(self, parent: TaskView) -> dict[str, object]:
        root = await read_object(self._context, TASKS, parent.root_name)
        if root is None or root["metadata"]["uid"] != parent.root_uid:
            raise Refusal(ErrorCode.SUPERSEDED, f"root task {parent.root_name} is gone")
        return root

    async def _children(self, parent: TaskView) -> set[str]:
        context = self._context
        options = ListOptions(
            field_selector=f"spec.lineage.parentUID={parent.uid}", metadata_only=True
        )
        page = await context.retrier.call(
            f"list children of {parent.name}",
            lambda: context.client.list_all(TASKS, context.namespace, options=options),
            give_up_after_s=GIVE_UP_AFTER_S,
        )
        return {item["metadata"]["name"] for item in page.items}


def _contended(parent: TaskView) -> Refusal:
    return Refusal(
        ErrorCode.UNAVAILABLE,
        f"root task {parent.root_name} is changed all the time; try again later",
    )
