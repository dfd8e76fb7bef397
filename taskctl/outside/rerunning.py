"""Running again what failed: one Task, or all of a tree that did not succeed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from taskctl.api.resources import TASKS
from taskctl.clock import Clock
from taskctl.constants import FIELD_ROOT_UID
from taskctl.errors import ApiError, Conflict, NotFound, TaskctlError
from taskctl.kube.interface import KubeObject, ListOptions, PatchOptions
from taskctl.outside.session import Session
from taskctl.policy.rerun import (
    TreeRetry,
    clear_timeout_body,
    decide_tree_retry,
    hold_body,
    refusal,
    release_body,
    reopen_body,
    rerun_body,
    tree_refusal,
    uncancel_body,
)
from taskctl.policy.view import TaskView, parse_task

TRIES: Final = 5
_AT_ONCE: Final = 16
_IDEMPOTENT: Final = PatchOptions(idempotent=True)


class RetryRefused(TaskctlError):
    """The Task, or its tree, cannot be run again as it is."""


class Rerunner:
    """Runs Tasks again.

    Args:
        session: client and namespace.
        clock: source of time.
    """

    def __init__(self, session: Session, clock: Clock) -> None:
        self._client = session.client
        self._namespace = session.namespace
        self._clock = clock
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def retry(self, name: str, *, failed: bool = False, uid: str = "") -> list[KubeObject]:
        """Run a Task again; return the Tasks that were queued.

        Of a root with tasks always those that did not succeed, as it runs nothing itself.

        Args:
            name: of the Task.
            failed: run again all that did not succeed of it and of what is below it. What has
                succeeded stays, with its results. Nothing is returned where nothing failed.
            uid: only if it is this very one.

        Raises:
            RetryRefused: it cannot be run again; the message says why.
            NotFound: there is no such Task.
            ApiError: the API server refused, or did not answer.
        """
        task = await self._client.get(TASKS, name, self._namespace)
        view = parse_task(task)
        if uid and view.uid != uid:
            raise NotFound(f"task {name} was deleted; the one of that name now is another", 404)
        if not (failed or view.is_graph or view.cancel):
            above = await self._check_tree(view)
            queued = await self._queue(task, _may_rerun)
            if above is not None and not view.is_root:
                await self._reopen(above)
            return [] if queued is None else [queued]
        whole = failed or view.is_graph
        if not whole:
            _may_rerun(task, task)
        root, members = await self._tree(task)
        plan = decide_tree_retry(root, task, members, alone=not whole)
        if plan.refused:
            raise RetryRefused(f"{name} cannot be retried: {plan.refused}")
        return await self._carry_out(root, plan)

    async def _check_tree(self, view: TaskView) -> KubeObject | None:
        """Make sure that the tree of a Task would let it run; return its root, if that is there."""
        if not view.state.terminal:
            return None
        try:
            root = await self._client.get(TASKS, view.root_name, self._namespace)
        except NotFound:
            return None
        above = parse_task(root)
        if above.uid != view.root_uid:
            return None
        why = tree_refusal(above, view)
        if why:
            raise RetryRefused(f"{view.name} cannot be retried: {why}")
        return root

    async def _tree(self, task: KubeObject) -> tuple[KubeObject, list[KubeObject]]:
        view = parse_task(task)
        root = task
        if not view.is_root:
            root = await self._client.get(TASKS, view.root_name, self._namespace)
        options = ListOptions(field_selector=f"{FIELD_ROOT_UID}={view.root_uid}")
        page = await self._client.list_all(TASKS, self._namespace, options=options)
        return root, page.items

    async def _carry_out(self, root: KubeObject, plan: TreeRetry) -> list[KubeObject]:
        async with self._held(root, plan.hold):
            if plan.clear_timeout:
                root = await self._clear_timeout(root)
            fresh = {task["metadata"]["uid"]: task for task in plan.again}
            for task in await asyncio.gather(*map(self._uncancel, plan.uncancel)):
                if task is not None and task["metadata"]["uid"] in fresh:
                    fresh[task["metadata"]["uid"]] = task
            # The root first: one with tasks creates those of its tasks that are missing.
            tasks = list(fresh.values())
            queued = [await self._requeue(task) for task in tasks[:1]]
            queued += await asyncio.gather(*map(self._requeue, tasks[1:]))
            await self._reopen(root)
        return [task for task in queued if task is not None]

    @asynccontextmanager
    async def _held(self, root: KubeObject, hold: bool) -> AsyncIterator[None]:
        """Have nothing of the tree start in the block.

        A call that is cut off leaves the root suspended; the next one finds that out.
        """
        body = hold_body(root) if hold else None
        if body is not None:
            root = await self._patch(root, body)
        try:
            yield
        except ApiError as error:
            name = root["metadata"]["name"]
            raise RetryRefused(
                f"{error}; the tree of {name} is suspended until the rest of it is queued: "
                f"taskctl retry {name} --failed"
            ) from error
        release = release_body(root)
        if release is not None:
            await self._patch(root, release)

    async def _patch(self, task: Mapping[str, Any], body: dict[str, Any]) -> KubeObject:
        name = task["metadata"]["name"]
        return await self._client.patch(TASKS, name, self._namespace, body, options=_IDEMPOTENT)

    async def _uncancel(self, task: Mapping[str, Any]) -> KubeObject | None:
        async with self._gate:
            current: KubeObject = dict(task)
            for _ in range(TRIES):
                try:
                    return await self._patch(current, uncancel_body(current))
                except NotFound:
                    return None
                except Conflict:
                    current = await self._client.get(
                        TASKS, task["metadata"]["name"], self._namespace
                    )
                    if current["metadata"]["uid"] != task["metadata"]["uid"]:
                        return None
            raise _contended(task)

    async def _reopen(self, before: KubeObject) -> None:
        """Have the root say that its tree runs again, where the controller was not faster."""
        view = parse_task(before)
        for _ in range(TRIES):
            try:
                root = await self._client.get(TASKS, view.name, self._namespace)
                body = reopen_body(root, view, self._clock.now())
                if body is not None and root["metadata"]["uid"] == view.uid:
                    await self._client.patch_status(TASKS, view.name, self._namespace, body)
            except NotFound:
                return
            except Conflict:
                continue
            return

    async def _clear_timeout(self, root: KubeObject) -> KubeObject:
        name = root["metadata"]["name"]
        for _ in range(TRIES):
            root = await self._client.get(TASKS, name, self._namespace)
            with contextlib.suppress(Conflict):
                return await self._client.patch_status(
                    TASKS, name, self._namespace, clear_timeout_body(root)
                )
        raise _contended(root)

    async def _requeue(self, task: Mapping[str, Any]) -> KubeObject | None:
        """Queue a Task of a tree again; None: it is gone, or another client was faster."""
        async with self._gate:
            try:
                return await self._queue(task, _is_still_ended)
            except NotFound:
                return None

    async def _queue(
        self, task: Mapping[str, Any], wanted: Callable[[Mapping[str, Any], KubeObject], bool]
    ) -> KubeObject | None:
        name, current = task["metadata"]["name"], dict(task)
        for _ in range(TRIES):
            if not wanted(task, current):
                return None
            body = rerun_body(current, self._clock.now())
            try:
                return await self._client.patch_status(TASKS, name, self._namespace, body)
            except Conflict:
                current = await self._client.get(TASKS, name, self._namespace)
        raise _contended(task)


def _may_rerun(_: Mapping[str, Any], current: KubeObject) -> bool:
    reason = refusal(current)
    if reason is not None:
        raise RetryRefused(f"{current['metadata']['name']} cannot be retried: {reason}")
    return True


def _is_still_ended(task: Mapping[str, Any], current: KubeObject) -> bool:
    same = task["metadata"]["uid"] == current["metadata"]["uid"]
    return same and parse_task(current).state.terminal


def _contended(task: Mapping[str, Any]) -> RetryRefused:
    name = task["metadata"]["name"]
    return RetryRefused(f"another program keeps changing {name}; try again")
