"""Removes ended Tasks whose time to live is up."""

from __future__ import annotations

import logging
from datetime import datetime

from taskctl.api.resources import TASKS
from taskctl.controllers.cachedapi import CachedApi
from taskctl.controllers.indexes import TaskIndexes
from taskctl.controllers.queues import look_again
from taskctl.controllers.task import state_of
from taskctl.errors import NotFound
from taskctl.kube.controller import DONE, Result
from taskctl.kube.interface import DeleteOptions, KubeObject, Propagation
from taskctl.kube.workqueue import WorkQueue
from taskctl.objectkey import ObjectKey
from taskctl.policy.ttl import (
    Keep,
    LookAgain,
    Remove,
    decide_ttl,
    released_time,
    ttl_s,
)
from taskctl.policy.view import TaskView, parse_task

log = logging.getLogger(__name__)


class TtlReconciler:
    """Deletes one ended Task when the policy says so.

    Args:
        api: the API server and its caches.
        queue: ended Tasks to look at.
        indexes: what is known of Tasks.
    """

    def __init__(self, api: CachedApi, queue: WorkQueue[ObjectKey], indexes: TaskIndexes) -> None:
        self._api = api
        self._queue = queue
        self._indexes = indexes
        # Ended members of trees that are not complete yet, by UID of the root.
        self._by_root: dict[str, dict[ObjectKey, None]] = {}
        self._root_of: dict[ObjectKey, str] = {}

    # --- events -------------------------------------------------------------------------

    def on_task(self, old: KubeObject | None, new: KubeObject | None) -> None:
        """Take in a Task event; O(1), but for the members that wait for this very root."""
        if new is None:
            if old is not None:
                self._indexes.ages.drop(("ended", old["metadata"]["uid"]))
                self._forget(ObjectKey.of(old))
                self._release(old["metadata"]["uid"])
            return
        if not state_of(new).terminal:
            return
        if ttl_s(self._api.caches.filled(parse_task(new))) is not None:
            self._queue.add(ObjectKey.of(new))
        uid = new["metadata"]["uid"]
        if uid in self._by_root and released_time(parse_task(new)) is not None:
            self._release(uid)

    def _release(self, root_uid: str) -> None:
        for key in self._by_root.pop(root_uid, ()):
            self._root_of.pop(key, None)
            self._queue.add(key)

    def _forget(self, key: ObjectKey) -> None:
        root_uid = self._root_of.pop(key, None)
        members = self._by_root.get(root_uid) if root_uid is not None else None
        if root_uid is not None and members is not None:
            members.pop(key, None)
            if not members:
                del self._by_root[root_uid]

    # --- reconcile ----------------------------------------------------------------------

    async def reconcile(self, key: ObjectKey) -> Result:
        """Delete the Task of that name if its time is up.

        Raises:
            Conflict: it has changed meanwhile.
            ApiError: the API server refused, or did not answer.
        """
        caches, indexes = self._api.caches, self._indexes
        task = caches.tasks.get(key)
        if task is None:
            return DONE
        view = caches.filled(parse_task(task))
        root = view if view.is_root else caches.relative(view, view.root_uid)
        awaited = indexes.waiting.is_awaited(key)

        def age_s(ended: datetime) -> float:
            return indexes.ages.age_s(("ended", view.uid), ended)

        decision = decide_ttl(view, root, awaited=awaited, age_s=age_s)
        match decision:
            case LookAgain():
                return look_again(decision.delay_s)
            case Keep():
                if decision.for_tree:
                    self._by_root.setdefault(view.root_uid, {})[key] = None
                    self._root_of[key] = view.root_uid
                return DONE
            case Remove():
                await self._remove(view)
                return DONE

    async def _remove(self, view: TaskView) -> None:
        # The version guards a Task that is being retried at this very moment.
        options = DeleteOptions(
            uid=view.uid,
            resource_version=view.resource_version,
            propagation=Propagation.BACKGROUND,
        )
        try:
            await self._api.client.delete(TASKS, view.name, view.namespace, options=options)
        except NotFound:
            return
        log.debug("task %s/%s removed: its time to live is up", view.namespace, view.name)
