"""Creates the tasks of a root that has some (``spec.tasks``); the root itself runs nothing.

The root stays Pending until all of them exist, and is Running from then on. So a controller
that is killed in between begins again with what is missing, and a task that a user deletes later is
not made again. The tree controller says how it ends.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from taskctl.api.resources import TASKS
from taskctl.api.states import TaskState
from taskctl.clock import format_micro
from taskctl.constants import ANNOTATION_CREATED, Reason
from taskctl.controllers.cachedapi import CachedApi
from taskctl.errors import AlreadyExists, Invalid, NotFound
from taskctl.kube.controller import DONE, Result
from taskctl.kube.interface import KubeObject
from taskctl.kube.workqueue import WorkQueue
from taskctl.objectkey import ObjectKey
from taskctl.policy.graph import BadGraph, plan_graph
from taskctl.policy.lineage import is_same_child
from taskctl.policy.status import Ending, StatusPatch, active_conditions, terminal_patch
from taskctl.policy.view import TaskView

_CREATED_AT_ONCE: Final = 16


class GraphStarter:
    """Turns roots with tasks into trees.

    Args:
        api: the API server and its caches.
        trees: UIDs of roots to look at.
    """

    def __init__(self, api: CachedApi, trees: WorkQueue[str]) -> None:
        self._api = api
        self._trees = trees

    async def start(self, task: KubeObject, view: TaskView) -> Result:
        """Create what is missing of a root's tasks, then write that it runs.

        Raises:
            Conflict: the root has changed meanwhile.
            ApiError: the API server refused, or did not answer.
        """
        api, now = self._api, self._api.timing.clock.now()
        plan = plan_graph(view)
        if isinstance(plan, BadGraph):
            await api.write_status(TASKS, task, _refused(view, plan.message, now))
            return DONE
        taken = await self._create_all(view, plan)
        if taken is not None:
            await api.write_status(TASKS, task, _refused(view, taken, now))
            return DONE
        await api.write_status(TASKS, task, _started(view, now))
        self._trees.add(view.uid)
        return DONE

    async def _create_all(self, root: TaskView, plan: list[dict[str, Any]]) -> str | None:
        """Create the tasks that do not exist; return why the root cannot run, or None."""
        missing = []
        for manifest in plan:
            metadata = manifest["metadata"]
            found = self._api.caches.tasks.get(ObjectKey(root.namespace, metadata["name"]))
            if found is None:
                missing.append(manifest)
            elif not is_same_child(found, root, manifest["spec"]["lineage"]["key"]):
                return _taken(metadata["name"])
        gate = asyncio.Semaphore(_CREATED_AT_ONCE)

        async def create(manifest: dict[str, Any]) -> str | None:
            async with gate:
                return await self._create(root, manifest)

        answers = await asyncio.gather(*map(create, missing), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return next((answer for answer in answers if isinstance(answer, str)), None)

    async def _create(self, root: TaskView, manifest: dict[str, Any]) -> str | None:
        api, name = self._api, manifest["metadata"]["name"]
        now = format_micro(api.timing.clock.now())
        manifest["metadata"]["annotations"][ANNOTATION_CREATED] = now
        try:
            stored = await api.client.create(TASKS, manifest, root.namespace)
        except AlreadyExists:
            try:
                stored = await api.client.get(TASKS, name, root.namespace)
            except NotFound:
                raise
            if not is_same_child(stored, root, manifest["spec"]["lineage"]["key"]):
                return _taken(name)
        except Invalid as error:
            return f"The API server refused task {name}: {error.message}"
        api.caches.tasks.observe(stored)
        return None


def _taken(name: str) -> str:
    return (
        f"A Task named {name} exists and is not a task of this root; delete it, or create the root "
        "under another name."
    )


def _refused(view: TaskView, message: str, now: Any) -> StatusPatch:
    return terminal_patch(view, TaskState.FAILED, Ending(Reason.SPEC_INVALID, message), now)


def _started(view: TaskView, now: Any) -> StatusPatch:
    return {
        "state": TaskState.RUNNING.value,
        "reason": Reason.STARTED.value,
        "message": "",
        "attempt": view.next_attempt,
        "root": view.name,
        "depth": 0,
        "defaults": _limits_taken(view),
        "times": {"started": format_micro(now), "observed": None, "exited": None},
        "nextAttemptTime": None,
        "observedGeneration": view.generation,
        "conditions": active_conditions(view, Reason.STARTED, now),
    }


def _limits_taken(view: TaskView) -> dict[str, Any] | None:
    """Return what the root itself takes of its TaskCluster's defaults: the limits of the tree."""
    taken = "limits" in view.spec and "limits" not in view.own_spec
    if taken:
        return {"limits": view.spec["limits"]}
    return {"limits": None} if view.status.get("defaults") else None
