"""Creates the task in ``spec.onExit`` of a root when its tree is quiet; notes its end."""

from __future__ import annotations

import logging
from typing import Any

from taskctl.api.resources import TASKS
from taskctl.clock import format_micro
from taskctl.constants import ANNOTATION_CREATED, ANNOTATION_TRACEPARENT, LABEL_EXIT_OF, Reason
from taskctl.controllers.cachedapi import CachedApi
from taskctl.errors import AlreadyExists, Invalid, NotFound
from taskctl.kube.interface import KubeObject
from taskctl.objectkey import ObjectKey
from taskctl.policy.onexit import (
    ExitMissing,
    decide_exit,
    exit_deleted,
    exit_refused,
    exit_task_name,
    wants_exit,
)
from taskctl.policy.status import Ending, StatusPatch
from taskctl.policy.tracecontext import context_of_task, parse_traceparent
from taskctl.policy.view import TaskView

log = logging.getLogger(__name__)


def exit_of(task: KubeObject | None) -> str:
    """Return the UID of the root that a raw Task says it is the exit task of, or empty."""
    labels = {} if task is None else task["metadata"].get("labels") or {}
    return str(labels.get(LABEL_EXIT_OF) or "")


class ExitTasks:
    """Runs the exit tasks of trees that are over.

    Args:
        api: the API server and its caches.
        traces: exit tasks belong to the trace of their tree.
    """

    def __init__(self, api: CachedApi, *, traces: bool = False) -> None:
        self._api = api
        self._traces = traces

    async def step(self, root: TaskView) -> StatusPatch | None:
        """Create a tree's exit task if it is owed; return what the root should say of it.

        Raises:
            ApiError: the API server refused, or did not answer; the step can be repeated.
        """
        if not wants_exit(root):
            return None
        api, name = self._api, exit_task_name(root)
        now = api.timing.clock.now()
        found = api.caches.tasks.get(ObjectKey(root.namespace, name))
        decision = decide_exit(root, found, now)
        if isinstance(decision, ExitMissing):
            if decision.manifest is None:
                found = await self._look(root, name)
                if found is None:
                    return exit_deleted(root, now).patch
            else:
                try:
                    found = await self._create(root, decision.manifest)
                except Invalid as error:
                    message = f"The API server refused the exit task {name}: {error.message}"
                    why = Ending(Reason.SPEC_INVALID, message)
                    return exit_refused(root, why, now).patch
            decision = decide_exit(root, found, now)
        return None if decision is None or isinstance(decision, ExitMissing) else decision.patch

    async def _create(self, root: TaskView, manifest: dict[str, Any]) -> KubeObject:
        """Create it, or find the one that an earlier try has created."""
        api, metadata = self._api, manifest["metadata"]
        metadata["annotations"] = {ANNOTATION_CREATED: format_micro(api.timing.clock.now())}
        if self._traces or parse_traceparent(root.traceparent) is not None:
            metadata["annotations"][ANNOTATION_TRACEPARENT] = context_of_task(root).text()
        try:
            stored = await api.client.create(TASKS, manifest, root.namespace)
        except AlreadyExists:
            return await api.client.get(TASKS, metadata["name"], root.namespace)
        log.info("tree %s/%s is over: exit task %s", root.namespace, root.name, metadata["name"])
        api.caches.tasks.observe(stored)
        return stored

    async def _look(self, root: TaskView, name: str) -> KubeObject | None:
        """Read it from the server: the cache may lag behind."""
        try:
            return await self._api.client.get(TASKS, name, root.namespace)
        except NotFound:
            return None
